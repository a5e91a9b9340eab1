"""Metrics for Prometheus, of runs that came to their end, whatever that was.

Commands keep a `Metrics` for as long as they run, and tell it of each end of a run:

    families        the metric families, and what a run adds to them; pure
    exporter        how they get out: a file for node_exporter's textfile collector, or over HTTP
    worker_metrics  what a worker of a fleet tells, of all its sources together
"""
