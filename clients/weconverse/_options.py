"""How a channel to the service is made: one place, a sentence for each number.

The names of gRPC's options are strings that nothing checks: a misspelt one is ignored
in silence. So they stand here once, and a test looks each of them up in the gRPC core.
"""

import json
import math
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version

from weconverse.v1 import channel_pb2, conversation_pb2

DEFAULT_TARGET = "127.0.0.1:50051"
"""Where a service on the same machine listens."""

DEFAULT_TIMEOUT = 60.0
"""Seconds that a call may take unless its caller says otherwise. There is no call without a deadline."""

MAX_MESSAGE_BYTES = 24 << 20
"""What one message may have, in either direction."""

Headers = Callable[[], Mapping[str, str]]
"""Returns further metadata for one call, for example ``traceparent``."""


def channel_options(target: str) -> list[tuple[str, int | str]]:
    """The options of every channel that this package opens."""
    return [
        # A proxy from the environment is for the world outside: what is on this machine is not
        # reached through it, and a token in plain text must not take that way.
        ("grpc.enable_http_proxy", 0 if is_local(target) else 1),
        # A message may hold 20 MiB of files, and room for the rest; the server has the same number.
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # A silent connection is asked for a sign of life this often: shorter than what home routers
        # and load balancers forget after, longer than the 20 s that the server takes as abuse.
        ("grpc.keepalive_time_ms", 30_000),
        # Without an answer for this long the connection counts as dead, and its calls fail. On a slow line the
        # ping waits behind the megabytes of a file that were handed to the kernel before it.
        ("grpc.keepalive_timeout_ms", 20_000),
        # The same, for pings: the core waits a minute for their answers, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", 20_000),
        # Also between calls, so that the first call after a pause does not find a dead connection.
        ("grpc.keepalive_permit_without_calls", 1),
        # As often as needed: the default stops after two pings until data flows, and a stream
        # that waits for a delivery is silent for hours.
        ("grpc.http2.max_pings_without_data", 0),
        # The first tries follow soon: a service that is started again is back within seconds, and with the
        # default of one second and its growth the next try would come after five.
        ("grpc.initial_reconnect_backoff_ms", 200),
        # After a lost connection the tries are at most this far apart: the default of two minutes
        # would keep a client away from a service that has been back for long.
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # How long one attempt to connect may take (that is what this option bounds, despite its
        # name): the default of 20 s would eat a third of a call's deadline on one dead address.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        # Retries before the first message, and all addresses of a name in turn; see service_config.
        ("grpc.service_config", service_config()),
        # Names this package in the server's log.
        ("grpc.primary_user_agent", f"weconverse-client/{_package_version()}"),
    ]


def service_config() -> str:
    """What gRPC does by itself, as the JSON it reads.

    UNAVAILABLE alone is repeated: three attempts, 0.1 s to 1 s apart. gRPC never
    repeats a stream that has brought a message (gRFC A6), and a turn is not repeated
    twice by the service when it has a ``request_id``, nor is a push. ``Attach`` is left out: whoever
    delivers must know that its lease is gone.
    """
    return json.dumps(
        {
            # One connection would pin a client to one replica.
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [
                {
                    "name": [{"service": _CONVERSATIONS}, {"service": _CHANNELS, "method": "Push"}],
                    "retryPolicy": {
                        "maxAttempts": 3,
                        "initialBackoff": "0.1s",
                        "maxBackoff": "1s",
                        "backoffMultiplier": 3,
                        "retryableStatusCodes": ["UNAVAILABLE"],
                    },
                }
            ],
        }
    )


_CONVERSATIONS = conversation_pb2.DESCRIPTOR.services_by_name["ConversationService"].full_name
_CHANNELS = channel_pb2.DESCRIPTOR.services_by_name["ChannelService"].full_name


def checked_timeout(timeout: float) -> float:
    """The time-out itself, in seconds.

    Raises:
        ValueError: if it is not a finite number above 0: a call without a deadline may wait for ever.
    """
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout: {timeout} is not a finite number of seconds above 0")
    return timeout


def check_token(token: str | None, target: str, *, encrypted: bool) -> None:
    """Refuses a token that cannot be sent, or that anybody on the way could read.

    Raises:
        ValueError: if it is empty or holds anything but visible ASCII characters, or if
            the connection is in plain text and leaves this machine.
    """
    if token is None:
        return
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError("token: only visible ASCII characters can be sent")
    if not encrypted and not is_local(target):
        raise ValueError(
            f"token: {target} is not on this machine, and the token would travel in plain text; "
            "give credentials=grpc.ssl_channel_credentials()"
        )


def call_metadata(token: str | None, headers: Headers | None) -> tuple[tuple[str, str], ...]:
    """What accompanies one call."""
    metadata = [("authorization", f"Bearer {token}")] if token is not None else []
    if headers is not None:
        metadata.extend(headers().items())
    return tuple(metadata)


def is_local(target: str) -> bool:
    """Whether a gRPC target cannot leave this machine: loopback addresses and Unix sockets.

    A name other than ``localhost`` counts as remote, whatever it resolves to today.
    """
    scheme, separator, rest = target.partition(":")
    if separator and scheme in {"unix", "unix-abstract"}:
        return True
    if scheme == "dns" and rest.startswith("//") and not rest.startswith("///"):
        return False  # It names the server to ask, which may answer anything.
    if separator and scheme in {"dns", "ipv4", "ipv6", "passthrough"}:
        target = rest.rpartition("/")[2]
    return all(_is_loopback(_host(address)) for address in target.split(","))


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, separator, port = address.rpartition(":")
    return host if separator and port.isdigit() and ":" not in host else address


def _is_loopback(host: str) -> bool:
    octets = host.split(".")
    is_127 = len(octets) == 4 and octets[0] == "127" and all(octet.isdigit() for octet in octets)
    return host in {"localhost", "::1"} or is_127


def _package_version() -> str:
    try:
        return version("weconverse-client")
    except PackageNotFoundError:  # Run from a source tree that was never installed.
        return "0"
