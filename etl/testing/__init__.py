"""Test equipment that ships: only the commands that run it import it.

emulator   a fake AIMS360; imports nothing else of etl
chaos      randomised fault injection against an oracle (command `prove`)
load_test  a fleet, measured on this machine (command `simulate`)
demo       the whole pipeline on embedded parts (command `demo`)
"""
