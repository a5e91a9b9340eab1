"""Connections to a service: made as the environment says, by proxies and certificates; kept for more than one client.

A worker that has many sources goes to two hosts all day: their connections and what vouches for them are worth keeping.
"""

import ssl
from collections.abc import Callable
from typing import Any

import httpx

from etl.client import network_errors
from etl.client.auth import TIMEOUT, no_cookies
from etl.client.deadline import Patience
from etl.errors import ConfigError


class Line(httpx.BaseTransport):
    """Connections to one host that outlive the clients that go by it, one client at a time. `hang_up` ends them.

    `most`: requests at a time. `vouched`: whom to trust, as `trust` says it; to read that anew for each costs 50 ms.
    """

    def __init__(
        self, base_url: str, most: int, monotonic: Callable[[], float], vouched: ssl.SSLContext | None = None
    ) -> None:
        self.patience = Patience(monotonic)
        self._client = client(base_url, vouched, limits=limits(most))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The request as it is, with its own time limits; signed already."""
        return self._client.send(request, stream=True, auth=None)

    def hang_up(self) -> None:
        """The connections end."""
        self.patience.close()
        self._client.close()


def trust(base_url: str) -> ssl.SSLContext:
    """Whom to trust: whom httpx does. Plain http needs nobody, and is spared the 50 ms that reading them takes.

    Raises ConfigError where SSL_CERT_FILE or SSL_CERT_DIR lead nowhere.
    """
    if httpx.URL(base_url).scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.create_ssl_context()
    except OSError:  # of the files that it reads
        raise ConfigError("SSL_CERT_FILE: can't be read as a PEM file of certificates; name one, or unset it") from None


def limits(requests: int) -> httpx.Limits:
    """So many requests at a time, and one to sign in."""
    return httpx.Limits(max_connections=requests + 1)


def client(base_url: str, vouched: ssl.SSLContext | None = None, **how: Any) -> httpx.Client:
    """An HTTP client; it reads the proxies' variables, which may be wrong. Raises ConfigError."""
    verify = vouched or (True if how.get("transport") else trust(base_url))
    try:
        return httpx.Client(verify=verify, cookies=no_cookies(), timeout=TIMEOUT, **how)
    except (ValueError, ImportError, httpx.InvalidURL):
        proxy = network_errors.proxy_of(base_url)
        name = proxy.variable if proxy else "HTTPS_PROXY"
        raise ConfigError(f"{name}: is no proxy's address; it is written http://user:password@host:port") from None
