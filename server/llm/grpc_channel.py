"""How the channel to a backend is made: whether it is encrypted, and a sentence for each number."""

import json
import math
import re
import ssl
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from program.binding import is_loopback, split_address
from server.settings import ModelSettings

MAX_RECEIVE_BYTES: Final = 20 << 20
"""Bytes of one message from a backend. gRPC's own 4 MiB are less than what vendors may send."""

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
        if not self.encrypted and not self.local and _has_key(settings):
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


def _has_key(settings: ModelSettings) -> bool:
    """Whether there is a key, or may be one later: a file can be empty now."""
    secrets = [settings.api_key, *(key.secret for key in settings.keys)]
    return any(secret or secret.reference for secret in secrets)


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
