"""Transform: a raw page to rows. Pure.

flatten        a page to a batch: jobs, documents, rejects
value_readers  values of other forms than documented, and what to call those forms
"""
