"""Load: rows into Postgres, and out of it.

upsert          write what is new or changed of a batch
merge_policy    which of two versions of a row is kept; pure
version_filter  drop rows whose version is stored already
unread_values   marks of jobs a value of which could not be read
copy_writer     binary COPY, UPDATE, documents as a set, status history
purge           delete, scrub or keep the jobs that are due
tombstones      what remains of a deleted job, and how a job returns
erase           remove an account or a person on request
"""
