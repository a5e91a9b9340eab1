"""One run, from the first question to the purge. Read `sync` first.

sync           the pipeline, top to bottom
run_context    a run in progress: lock, transactions, counts, verdict
paging         choose how scans ask for their pages
change_filter  which rows of a page need loading
ask_again      ask the source again for rows that could not be read
reconcile      compare all keys, and repair under guard
purge_step     the purge as a step of a run
doctor         check database and service before a run
"""
