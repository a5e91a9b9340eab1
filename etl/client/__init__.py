"""The AIMS360 API over HTTP.

client          a page, a job, a rerun; retries and throttling
auth            bearer token and OAuth2 password grant, as httpx.Auth
transport       HTTP clients and shared connections: proxies, TLS
retry           which status is retried, Retry-After, backoff
deadline        a time limit for a whole response
network_errors  why a host can't be reached: DNS, TLS, proxy
odata           the dialect: queries, literals, keys, dates, rowversions
payload         decode JSON responses, and repair what can be repaired
"""
