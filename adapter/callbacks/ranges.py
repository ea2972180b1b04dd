"""Sets of source addresses, and who a request comes from when proxies stand in front. Pure.

WeCom lists where its callbacks come from as plain addresses and as patterns such as
``101.226.103.*`` (DOC 90238); CIDR is what operators write.
"""

from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MOST_HOPS: Final = 32
"""Entries of a forwarding header that are looked at; a longer chain is nobody's."""


def network(text: str) -> Network:
    """The addresses that an entry of a list means: ``1.2.3.4``, ``1.2.3.*``, ``1.2.3.0/24``, and IPv6 alike.

    Raises:
        ValueError: none of these.
    """
    text = text.strip()
    octets = text.split(".")
    if "*" in octets:
        known = octets[: octets.index("*")]
        if len(octets) != 4 or not known or set(octets[len(known) :]) != {"*"}:
            raise ValueError(
                f"{text!r} is not an address, a pattern such as 101.226.103.*, or CIDR with host bits of 0"
            )
        octets = known + ["0"] * (4 - len(known))
        text = f"{'.'.join(octets)}/{8 * len(known)}"
    try:
        return _plain_network(ip_network(text))
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address, a pattern such as 101.226.103.*, or CIDR with host bits of 0"
        ) from None


def _plain_network(found: Network) -> Network:
    """IPv4 that was written as IPv6 is IPv4."""
    if isinstance(found, IPv6Network) and found.prefixlen >= 96:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, found.prefixlen - 96))
    return found


class Ranges:
    """A set of addresses that is quickly asked: one look for each length of prefix in it."""

    def __init__(self, networks: Iterable[Network]) -> None:
        self._by_length: dict[tuple[int, int], set[int]] = {}
        for one in networks:
            shift = one.max_prefixlen - one.prefixlen
            self._by_length.setdefault((one.version, shift), set()).add(int(one.network_address) >> shift)

    def __contains__(self, address: Address) -> bool:
        number = int(address)
        return any(
            version == address.version and number >> shift in known
            for (version, shift), known in self._by_length.items()
        )

    def __bool__(self) -> bool:
        return bool(self._by_length)


def address(text: str) -> Address | None:
    """The address in an entry of a forwarding header, its port and zone left away; ``None`` if there is none.

    ``1.2.3.4``, ``1.2.3.4:80``, ``2001:db8::1``, ``[2001:db8::1]:80``. IPv4 as IPv6 (``::ffff:1.2.3.4``) is IPv4.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        text = host if not port or (port.startswith(":") and port[1:].isdecimal()) else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        text = host if port.isdecimal() else ""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def client(peer: str, forwarded: Sequence[str], proxies: Ranges) -> Address | None:
    """Who a request comes from: the nearest address that is not one of our own proxies.

    Args:
        peer: the other end of the connection.
        forwarded: what the forwarding header says, in its order: the nearest one last. Each
            proxy appends whom it got the request from, so an entry counts only if everybody
            behind it is trusted; what a stranger wrote in front of it does not.

    Returns:
        ``None`` where nobody can say: there is no peer address, or a trusted proxy wrote
        something that is no address.
    """
    here = address(peer)
    for hop in reversed(forwarded[-_MOST_HOPS:]):
        if here is None or here not in proxies:
            return here
        here = address(hop)
    return here
