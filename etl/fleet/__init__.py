"""Many sources, side by side: on one machine, or by workers on many.

kept          sources that are configured in the database: the rows of etl.roster
roster        all sources, of the file and of the database, judged as a whole
contact       whether each of them can be reached
schedule      when a source's turn comes; pure
due           what is to be done for which source, by the ledger
desk          where a run is made: what stays from one to the next
engine        Procrastinate: the queue that workers share
worker        what a worker does when the engine says so
outcome       what a call for all sources came to; pure
side_by_side  all sources once, on one machine
"""
