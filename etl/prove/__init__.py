"""The adversary: everything that a source, a network and a machine can do to the mirror, and what must hold after it.

oracle      mirror against source, and the laws of the mirror; imports nothing else of `etl`
events      what the source can do: named functions of a world
strategies  which of it comes together, and what then must find it
sabotage    what the machine can do: a connection that is killed, cut, or refused by Postgres at any round trip
paging      whether a run asked again for pages that were committed
stage       a world, its service with its habits, a clock that is off, a mirror
kills       the command itself, killed by the kernel again and again
drama       one episode: events, runs and blows in a random order, and the check when it is quiet
show        rounds of episodes in a database of their own, and the table at their end
"""
