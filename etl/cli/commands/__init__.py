"""The commands, one module per group of them. Each adds itself to the group in `etl.cli.main`.

init         init
database     migrate, db start, stop, url
sync         sync, purge, reconcile
sync_all     sync --all
service      sync --every
worker       worker
reporting    status, report
sources      sources list, add, check, disable, enable, remove
jobs         jobs list, show, wait, rerun, export
documents    documents fetch
admin        grant, erase, doctor
testing      demo, prove, emulator
simulate     simulate
completions  completions
"""
