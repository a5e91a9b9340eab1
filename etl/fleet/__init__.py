"""Many sources, side by side: on one machine, or by workers on many.

schedule      when a source's turn comes; pure
due           what is to be done for which source, by the ledger
desk          where a run is made: what stays from one to the next
"""
