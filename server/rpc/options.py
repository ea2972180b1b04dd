"""The numbers of the gRPC port, each with its reason.

gRPC ignores an option whose name it does not know, so the names are kept here and
nowhere else on this side; a test holds them against what the C core knows.
"""

from typing import Final

MAX_RECEIVE: Final = "grpc.max_receive_message_length"
MAX_SEND: Final = "grpc.max_send_message_length"
SO_REUSEPORT: Final = "grpc.so_reuseport"
MIN_PING_INTERVAL: Final = "grpc.http2.min_ping_interval_without_data_ms"
PING_WITHOUT_CALLS: Final = "grpc.keepalive_permit_without_calls"
PING_AFTER: Final = "grpc.keepalive_time_ms"
PONG_WITHIN: Final = "grpc.keepalive_timeout_ms"
PING_TIMEOUT: Final = "grpc.http2.ping_timeout_ms"
MAX_PINGS_WITHOUT_DATA: Final = "grpc.http2.max_pings_without_data"
MAX_CONNECTION_AGE: Final = "grpc.max_connection_age_ms"
MAX_CONNECTION_AGE_GRACE: Final = "grpc.max_connection_age_grace_ms"


MAX_MESSAGE_BYTES: Final = 24 << 20
"""What a message may hold inline, and room for all the rest of a request. Clients have the same number."""


def server_options(longest_turn_seconds: float) -> list[tuple[str, int]]:
    """Options of the server."""
    return [
        # Files travel inside of requests. How many of them there may be at a time is decided by
        # interceptors/weight.py: gRPC hands a request over only once it is whole.
        (MAX_RECEIVE, MAX_MESSAGE_BYTES),
        (MAX_SEND, MAX_MESSAGE_BYTES),
        # A second server on the same port must fail, not share it: they would own different files.
        (SO_REUSEPORT, 0),
        # Clients ping silent streams every 30 s. By default that is called abuse and answered with
        # a cut connection; 20 s lets them, with room for late timers.
        (MIN_PING_INTERVAL, 20_000),
        # A connection between two calls may be pinged too, or proxies close it.
        (PING_WITHOUT_CALLS, 1),
        # A channel instance that froze, or whose machine went without a word, holds its lease until its
        # connection counts as dead: after 20 s at the latest, not after two hours, so that another takes over.
        # Not much sooner: on a slow line an answer waits behind the megabytes of a file that were handed to
        # the kernel before it, and the end of the connection would be that of all its streams.
        (PING_AFTER, 5_000),
        (PONG_WITHIN, 15_000),
        # The core waits a minute for the answer to a ping, whatever the line above says.
        (PING_TIMEOUT, 15_000),
        # However long a stream is silent: the default stops after two pings.
        (MAX_PINGS_WITHOUT_DATA, 0),
        # After 30 minutes a client connects anew, so that servers added meanwhile get their share.
        (MAX_CONNECTION_AGE, 30 * 60 * 1000),
        # Calls of an aged connection get the time of the longest turn, and 30 s for its delivery.
        (MAX_CONNECTION_AGE_GRACE, int((longest_turn_seconds + 30) * 1000)),
    ]
