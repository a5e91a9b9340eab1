"""Metrics for Prometheus, of runs that have ended, in whatever way.

A command keeps a `Metrics` for as long as it runs, and reports the end of each run to it:

    families        the metric families, and what a run adds to them; pure
    exporter        export them: a file for node_exporter's textfile collector, or HTTP
    http_server     the server at --metrics-port: /metrics, and /healthz for probes
    worker_metrics  metrics of a fleet worker, over all its sources
"""
