"""Extract: rows out of the source.

keyset_scan        probe, window, pagination by key, checks of a page, ranges that are split
time_slice_scan    the scan by slices of modifiedDate, where keys can't be filtered
prefetch           fetch key ranges in parallel, ahead of the loader
restore_detection  whether the source went back to an earlier state
"""
