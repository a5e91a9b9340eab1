"""First contact: `aims360-etl init`.

Answers are asked for, each is tested at once, and all of them become two files, which every other command reads:

    contact  what is asked, how an answer is tested, and what comes next
    written  the files, read alike by shells, Compose and systemd
"""
