"""Why a service can't be reached, and what to do about it: its name, its port, a proxy, a certificate.

Told from what Python's sockets and TLS raised, which the HTTP library's errors come from: its own words say less. The
proxy's variables are read from the environment here, since that library does so by itself, and the same way.
"""

import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

_ONCE = 1
_A_FEW = 3  # what a network that was just switched on may get over; a wrong address doesn't
_MANY = 8
# OpenSSL's numbers for what is wrong with a certificate.
_DATES = (9, 10)  # not valid yet, expired
_ANOTHER_HOST = (62, 64)  # by name, by number


class Hindrance(NamedTuple):
    """What was in the way, what to do about it, and how many times it is worth trying."""

    said: str
    advice: str
    tries: int


class Proxy(NamedTuple):
    """Who stands between: the variable that names it, and where it is, without its user and password."""

    variable: str
    place: str


def hindrance(error: Exception, base_url: str, proxy: Proxy | None, by_proxy: bool) -> Hindrance | None:
    """What the network did, None where nothing is known that helps. `by_proxy`: the proxy itself said no."""
    if by_proxy and proxy is not None:
        return Hindrance(f"the proxy at {proxy.place} refuses to lead there: {error}", of_proxy(proxy), _A_FEW)
    place = proxy.place if proxy else place_of(base_url)
    found = next(filter(None, (_told(cause, place) for cause in _causes(error))), None)
    if found is None or proxy is None or _is_certificate(error):
        return found
    return found._replace(advice=f"{of_proxy(proxy)}; {found.advice}")


def proxy_of(base_url: str, environ: Mapping[str, str] | None = None) -> Proxy | None:
    """The proxy that requests to this address go through, None where they go straight."""
    from urllib.request import getproxies, proxy_bypass  # the HTTP library has loaded it

    parts = urlsplit(base_url)
    if proxy_bypass(parts.hostname or ""):
        return None
    known = getproxies()
    for kind in (parts.scheme, "all"):
        if known.get(kind):
            names = [name for name in (os.environ if environ is None else environ) if name.lower() == f"{kind}_proxy"]
            return Proxy(names[0] if names else "the system's settings", place_of(known[kind]))
    return None


def of_proxy(proxy: Proxy) -> str:
    """What to do about a proxy that is in the way."""
    return (
        f"requests go through the proxy {proxy.place}, which {proxy.variable} names: check it (its user and password "
        f"are written http://user:password@{proxy.place}), or name the service's host in NO_PROXY to go past it"
    )


def place_of(url: str) -> str:
    """Host and port of an address, without user and password."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError:
        port = None
    return f"{parts.hostname or '?'}:{port or (443 if parts.scheme == 'https' else 80)}"


def certificate(code: int, words: str, host: str) -> Hindrance:
    """A certificate that isn't trusted, by OpenSSL's number for the reason. It won't be in a minute either."""
    if code in _DATES:
        advice = "check this machine's clock; if that is right, tell whoever runs that host"
    elif code in _ANOTHER_HOST:
        advice = "it was made out to another host: check the base address"
    else:
        advice = (
            "where a company's own CA vouches for all that leaves its network, name its PEM file in SSL_CERT_FILE, "
            "which then stands in place of the public CAs; else check the base address"
        )
    return Hindrance(f"the certificate of {host} isn't trusted: {words.rstrip('.')}", advice, _ONCE)


def _told(error: BaseException, place: str) -> Hindrance | None:
    host = place.rpartition(":")[0]
    if isinstance(error, ssl.SSLCertVerificationError):
        return certificate(error.verify_code, error.verify_message, host)
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return Hindrance(f"{place} doesn't speak TLS", "check the base address, its port too", _A_FEW)
    if isinstance(error, socket.gaierror):
        return _unresolved(error.errno, host)
    if isinstance(error, ConnectionRefusedError):
        return Hindrance(f"nothing listens at {place}", "check the address, its port too", _MANY)
    if isinstance(error, TimeoutError):
        return Hindrance(
            f"{place} doesn't answer in time", "check the network, and whether a firewall wants a proxy", _MANY
        )
    return None


def _unresolved(number: int | None, host: str) -> Hindrance:
    """A name without an address: for now, where the name server itself didn't answer; else there is none."""
    if number == socket.EAI_AGAIN:
        return Hindrance(f"the name server doesn't answer for {host}", "check this machine's network and DNS", _MANY)
    return Hindrance(f"no host is called {host}", "check how the address is written, and this machine's DNS", _A_FEW)


def _is_certificate(error: Exception) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(10):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__


def who_else(base_url: str) -> str:
    """Who may have answered in the service's place, and what to do about that; nothing where nobody could."""
    proxy = proxy_of(base_url)
    return of_proxy(proxy) if proxy else ""
