"""Single jobs and their documents, by hand, for whoever is at a terminal.

The mirror is asked with a reader's rights, the source with the client that a sync has too. Only `rerun` changes
anything there, and only `refresh` anything here.

    mirror_query  jobs as the mirror holds them: listed, found by the beginning of an id, shown
    live          one job as the source shows it now, and in what the mirror differs
    wait          ask the source, less and less often, until a job has ended or the time is up
    rerun         run a job again, once; what became of it where no answer came
    refresh       bring one job of the mirror up to date at once
    formatting    what people read of all that: a line per job, or a card of one
    documents     download documents before AIMS360 deletes them
"""
