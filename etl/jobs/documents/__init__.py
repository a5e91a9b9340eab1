"""Documents, downloaded before AIMS360 deletes them: which, from where, to which place, and a row of what was kept.

It runs beside a sync, and beside another of its kind, but not beside an erasure. A row is written once its file is in
place, so whatever ends it in between, the next call finds the file, sees that it is the same, and records it.

    archive        download documents in parallel, and record each
    selection      which documents can be downloaded, from the mirror
    download       one document over HTTP: resumed where it was cut, checked
    link_policy    which links may be followed, and which get the token; pure
    partial_files  unfinished downloads: locked, resumed
    stores         where documents are kept: a folder, or what fsspec writes to; never over another file
    paths          the path of a document, which never leads out of its folder; pure
"""
