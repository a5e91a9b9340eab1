"""Load: rows into Postgres, and out of it.

upsert          decide what is new, changed or the same, and write a batch
version_filter  drop rows whose version is stored already
copy_writer     binary COPY, UPDATE, documents as a set, status history
purge           delete, scrub or keep the jobs that are due
tombstones      what stays of a deleted job, and its way back
erase           remove an account or a person on request
"""
