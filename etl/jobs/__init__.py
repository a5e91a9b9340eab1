"""Jobs by hand: one or a few of them, for whoever stands before a terminal.

The mirror is asked with a reader's rights, the source with the client that a sync has too. Only `rerun` changes
anything there, and only `follow` anything here.

    mirrored  jobs as the mirror holds them: listed, found by the beginning of an id, shown
    live      one job as the source shows it now, and in what the mirror differs
    waiting   asks the source, less and less often, until a job has ended or the time is up
    rerun     a job is run again, once; what became of it where no answer came
    follow    the mirror follows one job at once
    card      what people read of all that: a line a job, or a card of one
"""
