"""A fleet: many sources, kept fresh by one machine or by many.

kept      sources that are configured in the database: the rows of etl.roster
roster    all sources, of the file and of the database, judged as a whole
contact   whether each of them can be reached, side by side
"""
