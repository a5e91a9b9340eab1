"""Check everything that a sync needs, and say what the service supports. Read `examine` first.

Nobody knows the real service from here (api.md): what it does with a query is found out by asking it, and each answer
is held against its question.

examine        all checks, in their order
checks         a check, and what was found about a capability
database       what a sync needs of the database
service        the service: whether it answers, whether its rows can be read, what it supports
interview      ask one question, within a minute, and say what the answer shows
questions      a question for each capability, with what an answer has to keep
job_questions  how single jobs can be asked for: in lists, one by one, by their path
consequences   what the findings mean for a sync, and what to ask AIMS360 for
keeper         keep what was found for the next sync
report         what was asked and answered, without a value: a file to be sent to the authors
shapes         the shape of a value: its type, length and spelling
scrubbing      texts and queries with a shape in the place of whatever may be a value
vocabulary     the words of servers that are no secret
"""
