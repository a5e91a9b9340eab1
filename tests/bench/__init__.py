"""Benchmarks: `make bench`. Speed is measured here and nowhere else: a timed test would only measure the machine."""
