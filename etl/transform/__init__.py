"""Transform: a raw page to rows. Pure.

flatten  a page to a batch: jobs, documents, rejects
"""
