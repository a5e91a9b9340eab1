"""The AIMS360 API over HTTP.

client          pages, single jobs, a rerun
pages           a page: how often it is asked for, and what else
capabilities    what the service supports, as far as its answers have shown
attempts        ask once, take in what the answer means, wait before the next attempt
answers         what an answer means: retry, sign in, refused, ask for less, failed
auth            bearer token and OAuth2 password grant, as httpx.Auth
sender          one request and its whole answer, within a time limit and a size
throttle        requests in flight: of a client, and of this process to one host
transport       HTTP clients and shared connections: proxies, TLS
source_clock    the time by the source's clock
retry           an attempt that failed, Retry-After, backoff
deadline        a time limit for a whole response
network_errors  why a host can't be reached: DNS, TLS, proxy
odata           the dialect: queries, literals, keys, dates, rowversions
payload         decode JSON responses, and repair what can be repaired
"""
