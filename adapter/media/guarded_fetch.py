"""Fetches from addresses that somebody else chose, without being led astray (SSRF).

The address that is really connected to is looked at when the socket is made, so neither a
name that resolves differently the second time, nor a number written in a strange way, nor
a redirect leads into our own network. No text of an error holds the address: whoever knows
a signed one can fetch the file.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from adapter.media.fetching import Fetched, MediaMissing, read_within
from adapter.media.kinds import UNKNOWN
from adapter.media.named import name_of
from adapter.media.room import Claim
from weconverse.v1.conversation_pb2 import Media

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REDIRECTS: Final = 3
_REDIRECTING: Final = frozenset({301, 302, 303, 307, 308})
_ANSWER_SECONDS: Final = 4.0
"""Until an answer begins, redirects included: one whose headers drip is never silent."""
_ADDRESS_CHARACTERS: Final = 4096
_REFUSED: Final = "the address is not public"
# Prefixes through which an IPv6 address reaches an IPv4 one: NAT64 (RFC 6052, 8215), 6to4 and Teredo.
_TRANSLATED: Final = tuple(
    ipaddress.ip_network(prefix) for prefix in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)


class AddressRefused(OSError):
    """A connection that is not made. The text is always the same, so that several of them stay one."""

    def __init__(self) -> None:
        super().__init__(_REFUSED)


def is_public(address: Address) -> bool:
    """Whether everybody can reach it: not private, loopback, link-local, shared, reserved, or a way around these."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in prefix for prefix in _TRANSLATED):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


class AddressGuard:
    """Decides whom a socket may be connected to. It is aiohttp's ``socket_factory``."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        """Args: ``allowed`` networks are good although they are not public."""
        self._allowed = tuple(allowed)

    def permits(self, host: object) -> bool:
        """Whether ``host``, the address of a socket, may be connected to. Anything but a plain address may not."""
        try:
            address = ipaddress.ip_address(str(host).partition("%")[0])
        except ValueError:
            return False
        known = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return is_public(address) or any((known or address) in network for network in self._allowed)

    def __call__(self, info: tuple[Any, ...]) -> socket.socket:
        """Makes the socket for an entry of ``getaddrinfo``.

        Raises:
            AddressRefused: nobody may be connected to there.
        """
        family, kind, protocol, _, address = info
        if not self.permits(address[0]):
            raise AddressRefused
        return socket.socket(family=family, type=kind, proto=protocol)


class GuardedFetch:
    """Gets files from public addresses. Use it as a context manager: it has a session of its own."""

    def __init__(
        self,
        *,
        allowed: Sequence[Network] = (),
        hosts: Sequence[str] = (),
        insecure_http: bool = False,
        connect_seconds: float = 3.0,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """Args: ``allowed`` as for :class:`AddressGuard`; ``hosts``, if any, and those below are the only ones."""
        self._guard = AddressGuard(allowed)
        self._hosts = tuple(host.lower().lstrip(".") for host in hosts)
        self._schemes = ("https", "http") if insecure_http else ("https",)
        self._connect_seconds = connect_seconds
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "GuardedFetch":
        self._session = aiohttp.ClientSession(
            # No connection is used twice: each is looked at for the one fetch it is made for.
            connector=aiohttp.TCPConnector(
                limit=0, force_close=True, resolver=self._resolver, use_dns_cache=False, socket_factory=self._guard
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
            auto_decompress=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "weconverse"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(
        self,
        url: str,
        *,
        most: int,
        claim: Claim,
        opened: Callable[[bytes], bytes] | None = None,
        form_encoded: bool = False,
    ) -> tuple[list[bytes], Fetched]:
        """The pieces of a file of at most ``most`` bytes, and what its headers say of it (without data).

        Args: ``opened`` as for ``fetching.read_within``; ``form_encoded`` as for ``named.name_of``.

        Raises:
            MediaMissing: there is none, it is too large, or the way to it leads where we do not go.
        """
        async with self._answer(url) as response:
            extra = {} if opened is None else {"opened": opened}
            try:
                pieces = await read_within(response, most=most, claim=claim, **extra)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise MediaMissing(Media.UNAVAILABLE, type(error).__name__) from None
            said = response.content_type if "Content-Type" in response.headers else ""
            name = name_of(response.headers.get("Content-Disposition", ""), form_encoded=form_encoded)
            return pieces, Fetched(b"", name, "" if said == UNKNOWN else said)

    @asynccontextmanager
    async def _answer(self, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer at the end of the redirects."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                response = await self._followed(self._checked(url))
        except TimeoutError:
            raise MediaMissing(Media.UNAVAILABLE, "no answer") from None
        try:
            if response.status != 200:
                raise MediaMissing(Media.UNAVAILABLE, f"HTTP {response.status}")
            yield response
        finally:
            response.close()

    async def _followed(self, address: URL) -> aiohttp.ClientResponse:
        for _ in range(_REDIRECTS + 1):
            response = await self._ask(address)
            if response.status not in _REDIRECTING:
                return response
            response.close()
            address = self._checked(response.headers.get("Location", ""), address)
        raise MediaMissing(Media.REFUSED, "too many redirects")

    async def _ask(self, address: URL) -> aiohttp.ClientResponse:
        assert self._session is not None
        try:
            return await self._session.get(address, allow_redirects=False)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise MediaMissing(Media.REFUSED, _REFUSED) from None
            raise MediaMissing(Media.UNAVAILABLE, type(error).__name__) from None
        except aiohttp.InvalidURL:
            raise MediaMissing(Media.REFUSED, "not an address") from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise MediaMissing(Media.UNAVAILABLE, type(error).__name__) from None

    def _checked(self, text: str, base: URL | None = None) -> URL:
        try:
            if not text or len(text) > _ADDRESS_CHARACTERS:
                raise ValueError
            # Signed addresses are taken as they are: quoting them anew would break the signature.
            url = URL(text, encoded=True)
            if base is not None:
                url = base.join(url)
            host, scheme = (url.host or "").lower().rstrip("."), url.scheme
            port = url.port
        except ValueError:
            raise MediaMissing(Media.REFUSED, "not an address") from None
        if scheme not in self._schemes or not host or port is None or url.user is not None or url.password is not None:
            raise MediaMissing(Media.REFUSED, "not an address of https")
        if self._hosts and not any(host == good or host.endswith(f".{good}") for good in self._hosts):
            raise MediaMissing(Media.REFUSED, "a host that is not on the list")
        return url
