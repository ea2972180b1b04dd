"""Where a port may listen without protection."""

import ipaddress


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 host may stand in brackets.

    Raises:
        ValueError: with the rule that is broken.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"must be host:port with a port of 0 to 65535, and is {address!r}")
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise ValueError(f"must name a host, for example 127.0.0.1:{port}, and is {address!r}")
    return host, int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach ``host:port`` or ``unix:path``.

    A name other than ``localhost`` counts as reachable from outside: it is whatever the
    resolver says, and that can change after this was asked.
    """
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refusal(address: str, *, protected: bool, allowed: bool, flag: str) -> str | None:
    """Why a program must not listen at ``address``, or ``None`` if it may.

    Args:
        protected: whether TLS or credentials guard the port.
        allowed: whether the operator has said that an open port is meant.
        flag: the setting that says so, for the remedy.

    Raises:
        ValueError: if ``address`` is not an address.
    """
    if is_loopback(address) or protected or allowed:
        return None
    return (
        f"{address} can be reached from other machines, and nothing guards it: "
        f"set up TLS or credentials, listen on 127.0.0.1, or set {flag} = true if the network is closed"
    )
