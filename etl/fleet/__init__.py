"""Many sources: in parallel on one machine, or by workers on many.

source_registry  all sources, of the file and of the database, validated as a whole
source_store     sources that are stored in the database: the rows of etl.roster
reachability     whether each of them can be reached
scheduler        when a source's turn comes, and what is due for it
executor         where a task is run: connections and tokens that stay from one to the next
sync_all         `sync --all`: all sources once, on one machine
results          what `sync --all` came to; pure
task_queue       Procrastinate: the queue that workers share
worker           what a worker does when the queue says so
interval_loop    `sync --every`: one source again and again
sd_notify        what a service tells systemd
"""
