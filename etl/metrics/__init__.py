"""Metrics for Prometheus, of runs that came to their end, whatever that was.

Commands keep a `Metrics` for as long as they run, and tell it of each end of a run:

    samples     what is told, and what a run adds to it; pure
    exposition  how: a file for node_exporter's textfile collector, or asked for over HTTP
    crew        what a worker of a fleet tells, of all its sources together
"""
