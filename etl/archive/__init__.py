"""Outputs fetched before AIMS360 deletes them: which, from where, to which place, and a row of what was kept.

It runs beside a sync, and beside another of its kind, but not beside an erasure. A row is written once its file is in
place, so whatever ends it in between, the next call finds the file, sees that it is the same, and records it.

    fetching   outputs side by side, each to its place, then its row
    outputs    which can be had: chosen from the mirror
    downloads  the content of one over HTTP: gone on with after a cut, checked
    links      which links may be followed, and which get the token; pure
    parts      files that are being received: locked, gone on with
    stores     where outputs are kept: a folder, or what fsspec writes to; never over another file
    filing     the path of an output, of which nothing leads out of its folder; pure
"""
