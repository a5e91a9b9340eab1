"""Documents, downloaded before AIMS360 deletes them: which, from where, to which place, and a row of what was kept.

It runs beside a sync, and beside another of its kind, but not beside an erasure. A row is written once its file is in
place, so whatever ends it in between, the next call finds the file, sees that it is the same, and records it.

    archive        documents in parallel, each to its place, then its row
    selection      which can be had: chosen from the mirror
    download       the content of one over HTTP: resumed after a cut, checked
    link_policy    which links may be followed, and which get the token; pure
    partial_files  files that are being received: locked, resumed
    stores         where documents are kept: a folder, or what fsspec writes to; never over another file
    paths          the path of a document, which never leads out of its folder; pure
"""
