"""`python -m etl` is the command `aims360-etl`."""

from etl.cli import main

main()
