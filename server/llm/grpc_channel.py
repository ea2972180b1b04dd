"""How channels to a backend are made: whether they are encrypted, how many, and a sentence for each number."""

import asyncio
import json
import math
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from program.binding import is_loopback, split_address
from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.endpoint import has_key
from server.settings import ModelSettings

MAX_RECEIVE_BYTES: Final = 24 << 20
"""Bytes of one message from a backend. gRPC's own 4 MiB are less than what vendors may send."""

CALLS_PER_CONNECTION: Final = 100
"""Calls at a time that share a connection. Servers commonly take no more, and gRPC lets the next
ones wait without a word: to their time-outs that would look like a backend that says nothing."""

_ON_THE_WAY: Final = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)
_HEADER_NAME: Final = re.compile(r"[0-9a-z_.-]+").fullmatch
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*").fullmatch


class Endpoint:
    """Where a backend is, and how the way to it is protected. Opens nothing yet."""

    def __init__(self, target: str, settings: ModelSettings) -> None:
        """Args: ``host:port`` or ``unix:path``; of the settings those for TLS, keys and time-outs count.

        Raises:
            ValueError: if this cannot work, or would send a key in plain text to another
                machine. The message begins with the field, such as ``tls``.
        """
        self.target: Final = target
        self.local: Final = _is_local(target)
        self.encrypted: Final = not self.local if settings.tls is None else settings.tls
        self.headers: Final = _headers(settings.extra_headers)
        if not self.encrypted and not self.local and has_key(settings):
            raise ValueError(
                f"tls: {target} is not on this machine, and the key would travel in plain text; "
                "leave tls unset or set it to true, or name no key"
            )
        self._credentials = _credentials(settings, encrypted=self.encrypted)
        self._connect_seconds = settings.connect_seconds

    def open(self) -> grpc.aio.Channel:
        """A new channel, which belongs to the running event loop. Connects at the first call."""
        options = _options(self._connect_seconds)
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.target, options=options)
        return grpc.aio.secure_channel(self.target, self._credentials, options=options)


class Channels:
    """The channels to one backend: one, and another one whenever those that there are have their fill of calls."""

    def __init__(self, endpoint: Endpoint, connect_seconds: float) -> None:
        """Args: where to, and how long connecting may take. Opens nothing yet."""
        self._endpoint = endpoint
        self._connect_seconds = connect_seconds
        self._lanes: list[_Lane] = []
        self._closed = False

    @asynccontextmanager
    async def connected(self, budget: Budget) -> AsyncIterator[grpc.aio.Channel]:
        """A channel for one call, once it has a connection or knows that it cannot get one; a call then says why.

        Raises:
            ProviderError: if connecting takes too long, or after :meth:`aclose`.
        """
        lane = self._lane()
        lane.calls += 1
        try:
            await self._connect(lane.channel, budget)
            yield lane.channel
        finally:
            lane.calls -= 1

    async def lost(self) -> None:
        """Returns when the connection that there is now has ended; at once where there is none.

        The first channel speaks for all: it is the first to be used, and a program that
        ends takes all connections with it.
        """
        if not self._lanes or self._closed:
            return
        channel = self._lanes[0].channel
        with suppress(grpc.aio.UsageError):
            if channel.get_state() is grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)

    async def aclose(self) -> None:
        """Closes all. Calls under way fail."""
        self._closed = True
        await asyncio.gather(*(lane.channel.close() for lane in self._lanes))

    def _lane(self) -> "_Lane":
        if self._closed:
            raise ProviderError(ErrorClass.TRANSIENT, "the provider was closed")
        for lane in self._lanes:
            if lane.calls < CALLS_PER_CONNECTION:
                return lane
        # Made when it is needed, because a channel belongs to the running event loop.
        self._lanes.append(_Lane(self._endpoint.open()))
        return self._lanes[-1]

    async def _connect(self, channel: grpc.aio.Channel, budget: Budget) -> None:
        state = channel.get_state(try_to_connect=True)
        if state not in _ON_THE_WAY:
            return
        try:
            async with asyncio.timeout(budget.within(self._connect_seconds)):
                while state in _ON_THE_WAY:
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            raise ProviderError(ErrorClass.TIMEOUT, "connecting took too long") from None
        except grpc.aio.UsageError:
            raise ProviderError(ErrorClass.TRANSIENT, "the provider was closed") from None


class _Lane:
    """A channel and the calls that it has."""

    __slots__ = ("calls", "channel")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0


def _options(connect_seconds: float) -> list[tuple[str, int | str]]:
    """The options of every channel to a backend. gRPC ignores a misspelt name, so a test looks each of them up."""
    return [
        ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
        # Pictures travel inside of requests; how large those may be is checked where they come in.
        ("grpc.max_send_message_length", -1),
        # A silent connection is asked for a sign of life this often while a call is under way. How many
        # times until data flows is left to gRPC, which stops early: servers take more for abuse.
        ("grpc.keepalive_time_ms", 30_000),
        # Without an answer for this long the connection counts as dead, and its calls fail.
        ("grpc.keepalive_timeout_ms", 10_000),
        # How long one attempt to connect may take (that is what this option bounds, despite its name).
        ("grpc.min_reconnect_backoff_ms", math.ceil(connect_seconds * 1000)),
        # Between attempts calls fail at once, so the pauses are short: the router has its own, and a
        # breaker. The defaults of 1 s and two minutes would keep a backend away that is back for long.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # As over HTTP: a proxy from the environment is not used.
        ("grpc.enable_http_proxy", 0),
        # Repeating a call is the router's business, so no retry policy is set here, and none is taken
        # from the DNS. What gRPC repeats by itself are calls that no server has seen.
        ("grpc.service_config_disable_resolution", 1),
        # One connection would pin this server to one replica of a backend that has several.
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
        # Channels of one process to one address would share a connection otherwise; see CALLS_PER_CONNECTION.
        ("grpc.use_local_subchannel_pool", 1),
        # Names this program in the backend's log.
        ("grpc.primary_user_agent", "weconverse-server"),
    ]


def _is_local(target: str) -> bool:
    if not target:
        raise ValueError("target: names no address; set it to host:port")
    try:
        if not target.startswith(("unix:", "unix-abstract:")):
            split_address(target)
        return is_loopback(target)
    except ValueError as error:
        raise ValueError(f"target: {error}") from None


def _headers(extra: dict[str, str]) -> tuple[tuple[str, str], ...]:
    for name, value in extra.items():
        if _HEADER_NAME(name.lower()) is None or name.lower().startswith("grpc-") or name.lower().endswith("-bin"):
            raise ValueError(
                f"extra_headers: {name!r} cannot be sent over gRPC; names hold letters, digits and _.-, "
                "begin with no grpc- and end with no -bin"
            )
        if _HEADER_VALUE(value) is None:
            raise ValueError(f"extra_headers: the value of {name!r} cannot be sent; use printable ASCII only")
    return tuple((name.lower(), value) for name, value in extra.items())


def _credentials(settings: ModelSettings, *, encrypted: bool) -> grpc.ChannelCredentials | None:
    if not encrypted:
        for field in ("ca_file", "certificate_file", "key_file"):
            if getattr(settings, field):
                raise ValueError(f"{field}: has no effect without TLS; set tls = true, or leave it out")
        return None
    if bool(settings.certificate_file) != bool(settings.key_file):
        missing = "key_file" if settings.certificate_file else "certificate_file"
        raise ValueError(f"{missing}: is missing; mTLS needs certificate_file and key_file")
    return grpc.ssl_channel_credentials(
        _read("ca_file", settings.ca_file) or _system_authorities(),
        _read("key_file", settings.key_file),
        _read("certificate_file", settings.certificate_file),
    )


def _read(field: str, path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{field}: {path} cannot be read: {error.strerror}") from error


def _system_authorities() -> bytes | None:
    """Those that OpenSSL trusts, as over HTTP. ``None``, where there is no such file: those that gRPC carries along."""
    path = ssl.get_default_verify_paths().cafile
    try:
        return Path(path).read_bytes() if path else None
    except OSError:
        return None
