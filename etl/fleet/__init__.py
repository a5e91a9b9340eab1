"""Many sources: in parallel on one machine, or by workers on many.

source_registry  all sources, of the file and of the database, validated as a whole
source_store     sources that are stored in the database: the rows of etl.roster
reachability     whether each of them can be reached
scheduler        when a source's turn comes, and what is due for it
executor         run a task, with connections and tokens that are kept between runs
sync_all         `sync --all`: all sources once, on one machine
results          the result of `sync --all`, and its exit code; pure
task_queue       Procrastinate: the queue that workers share
worker           a worker of the fleet
interval_loop    the loop of `sync --every`
sd_notify        systemd's notify protocol
"""
