"""Many sources, side by side: on one machine, or by workers on many.

schedule      when a source's turn comes; pure
due           what is to be done for which source, by the ledger
engine        Procrastinate: the queue that workers share
worker        what a worker does when the engine says so
desk          where a run is made: what stays from one to the next
"""
