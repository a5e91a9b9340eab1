"""Which links may be followed, and which get the token. Pure: the rules of who is asked for an output.

Links come from the source, and redirects from whoever answers: neither may send the token elsewhere, nor this machine
to an address that only it can reach.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from etl.config.validation import is_loopback
from etl.errors import Refused

PUBLIC = "Public"
_PORTS = {"http": 80, "https": 443}
_AS_THEY_ARE = "%/:=&?~+!$,;'@()*[]-._"
_PUBLIC_6, _NAT64 = IPv6Network("2000::/3"), IPv6Network("64:ff9b::/96")
_INTERNAL = "its link leads to an address inside of this network, where no output of AIMS360 is: not followed"


class Step(NamedTuple):
    """An address to ask, and whether the token goes along. Secret: whoever has a Public link has the file."""

    address: str
    with_token: bool

    def __repr__(self) -> str:
        return f"Step(***, with_token={self.with_token})"


def first(link: str, scope: str | None, base_url: str) -> Step:
    """How an output is asked for. Raises Refused, whose message names no address.

    A Public one never with the token. Any other with it, and so of the configured service alone.
    """
    step = Step(quote(link.strip(), safe=_AS_THEY_ARE), with_token=scope != PUBLIC)
    parts = _parts(step.address, base_url)
    if step.with_token and _origin(parts) != _origin(urlsplit(base_url)):
        raise Refused(
            f"it is {scope or 'of no known scope'}, and lies on another host than the service: the token isn't sent "
            "there, and without it there is no way in",
            0,
        )
    return step


def onward(step: Step, location: str, base_url: str) -> Step:
    """Where a redirect leads: never with the token. Raises Refused as `first` does."""
    try:
        joined = urljoin(step.address, quote(location.strip(), safe=_AS_THEY_ARE + "#"))
    except ValueError:
        raise Refused("it was redirected to something that is no address", 0) from None
    _parts(joined, base_url)
    return Step(joined, with_token=False)


def host_to_resolve(step: Step, base_url: str) -> str | None:
    """The host whose addresses must be looked at before it is asked; None for the service's own."""
    host = urlsplit(step.address).hostname
    base = urlsplit(base_url).hostname
    return None if host == base or (is_loopback(base) and is_loopback(host)) else host


def check_addresses(addresses: list[str]) -> None:
    """Raises Refused where a name leads inside: to this machine, its network or the cloud's own services."""
    if any(_is_internal(address) for address in addresses):
        raise Refused(_INTERNAL, 0)


def _parts(address: str, base_url: str) -> SplitResult:
    base = urlsplit(base_url)
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Refused("its link is no address", 0) from None
    if parts.scheme not in _PORTS or not host:
        raise Refused("its link is no address of a web server: nothing but https is followed", 0)
    if "@" in parts.netloc or "%" in parts.netloc:
        raise Refused("its link names a user or an odd host: not followed", 0)
    is_ours = _origin(parts) == _origin(base) or (is_loopback(base.hostname) and is_loopback(host))
    if parts.scheme == "http" and not is_ours:
        raise Refused("its link is http, and would show its key to everyone on the way: only https is followed", 0)
    if not is_ours and (host == "localhost" or _is_internal(host)):
        raise Refused(_INTERNAL, 0)
    return parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _is_internal(host: str) -> bool:
    """Whether it is an address, and none of the public internet."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        behind = _leads_to(address)
        if behind is None and address not in _PUBLIC_6:
            return True
        return not (behind or address).is_global or (behind or address).is_multicast
    return not address.is_global or address.is_multicast


def _leads_to(address: IPv6Address) -> IPv4Address | None:
    """The address of version 4 that gateways make of one of version 6: mapped, 6to4, or NAT64's."""
    is_nat64 = address in _NAT64
    return address.ipv4_mapped or address.sixtofour or (IPv4Address(int(address) & 0xFFFFFFFF) if is_nat64 else None)
