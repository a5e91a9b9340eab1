"""What is remembered between runs, in schema etl.

run_log           etl.runs: one row per run, its retention and compaction
source_state      etl.sources: watermark, complete_through, what a source is known by
scan_checkpoints  etl.scans: the open scan of a source
rejects           etl.rejects: rows that can't be read
ask_schedule      when the source is asked again for rejects, and for values that could not be read
sign_in           etl.sources: credentials that were refused, and until when nobody signs in with them
capabilities      what the service supports, as etl.sources holds it
seen_keys         etl.compared: keys that an open reconciliation has seen
unseen_jobs       etl.unseen_jobs: jobs that the last reconciliation lacked
circuit_breaker   failures in a row, and until when fleets pause a source
"""
