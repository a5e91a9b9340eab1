"""Randomised fault injection: what a source, a network and a machine can do to the mirror, and what must hold after it.

oracle           mirror against source; imports nothing else of `etl`
invariants       invariants of the mirror; imports nothing else of `etl`
mutations        what the source can do: named functions of its jobs
scenarios        which mutations occur together, and which check must find them
source_profile   how the source is served in an episode
fault_injection  what the machine can do: a connection that is killed, cut, or refused by Postgres at any round trip
resume_check     whether a run asked again for pages that were committed
environment      emulator, mirror and clock of an episode
process_kills    the command, killed with SIGKILL again and again
episode          one episode: mutations, runs and faults in a random order, and the check when it is quiet
runner           rounds of episodes in a database of their own, and the table at their end
"""
