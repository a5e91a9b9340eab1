"""Extract: rows out of the source.

probe              the newest row and the source's time, before anything else
strategy           which window and which paging, of what the service supports
keyset_scan        window, pagination by key, ranges that are split
page_fetcher       pages of a scan by key: smaller ones, and records left out, where the service can't serve a page
page_size          how many rows a page is asked for
unserved_records   records that the service can't serve, and their rejects; pure
page_checks        what a page must keep of what was asked; pure
time_slice_scan    the scan by slices of modifiedDate, where keys can't be filtered
skip_scan          the scan by overlapping pages, where neither keys nor dates can be filtered
row_count          how many rows the source counts
prefetch           fetch key ranges in parallel, ahead of the loader
key_lists          ask for single jobs by their keys, in short lists
restore_detection  whether the source went back to an earlier state
"""
