"""How channels are made: the options are spelled as gRPC spells them, and do what they say."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not in the stubs; only its file is read

from tests.clients.raw import serving
from weconverse import BlockingClient, ConversationClient, Turn, Unavailable, WeConverseError
from weconverse._options import DEFAULT_TARGET, channel_options, is_local, service_config


def test_grpc_knows_every_option() -> None:
    core = Path(cygrpc.__file__).read_bytes()
    for name, _ in channel_options(DEFAULT_TARGET):
        assert name.encode() + b"\0" in core, name
    # The proof that this proves something: a spelling that gRPC would ignore in silence.
    assert b"grpc.keep_alive_time_ms" not in core
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in core


def test_the_numbers() -> None:
    options = dict(channel_options(DEFAULT_TARGET))
    assert options["grpc.keepalive_time_ms"] == 30_000
    assert options["grpc.keepalive_timeout_ms"] == options["grpc.http2.ping_timeout_ms"] == 20_000
    assert options["grpc.service_config"] == service_config()
    assert str(options["grpc.primary_user_agent"]).startswith("weconverse-client/")
    assert len(options) == len(channel_options(DEFAULT_TARGET))


def test_the_service_config() -> None:
    config = json.loads(service_config())
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    [method] = config["methodConfig"]
    assert method["name"] == [
        {"service": "weconverse.v1.ConversationService"},
        {"service": "weconverse.v1.ChannelService", "method": "Push"},
    ]
    policy = method["retryPolicy"]
    assert policy["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert (policy["maxAttempts"], policy["initialBackoff"], policy["maxBackoff"]) == (3, "0.1s", "1s")


def test_a_proxy_is_for_the_world_outside() -> None:
    assert dict(channel_options("127.0.0.1:1"))["grpc.enable_http_proxy"] == 0
    assert dict(channel_options("example.com:1"))["grpc.enable_http_proxy"] == 1


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50051",
        "127.8.9.1",
        "localhost:1",
        "localhost",
        "[::1]:1",
        "::1",
        "dns:///localhost:1",
        "dns:localhost:1",
        "ipv4:127.0.0.1:1,127.0.0.2:2",
        "ipv6:[::1]:1",
        "unix:/run/weconverse.sock",
        "unix:///run/weconverse.sock",
        "unix-abstract:weconverse",
    ],
)
def test_what_stays_on_this_machine(target: str) -> None:
    assert is_local(target)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "example.com",
        "10.0.0.1:1",
        "127.0.0.1.example.com:1",
        "localhost.example.com:1",
        "ipv4:127.0.0.1:1,10.0.0.1:2",
        "dns://10.0.0.1/localhost:1",
        "xds:///127.0.0.1",
        "[::2]:1",
        "http://127.0.0.1",
        "::",
    ],
)
def test_what_does_not(target: str) -> None:
    assert not is_local(target)


@pytest.mark.parametrize(
    ("code", "calls"),
    [
        (grpc.StatusCode.UNAVAILABLE, 3),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 1),
        (grpc.StatusCode.INTERNAL, 1),
        (grpc.StatusCode.ABORTED, 1),
    ],
)
async def test_unavailable_is_repeated_by_the_channel_and_nothing_else_is(code: grpc.StatusCode, calls: int) -> None:
    called = []

    async def get_turn(request: object, context: Any) -> None:
        called.append(request)
        await context.abort(code, "no")

    async with serving(GetTurn=get_turn) as target, ConversationClient(target) as client:
        with pytest.raises(WeConverseError, match="no"):
            await client.get_turn("conversations/c/turns/1")
    assert len(called) == calls


async def test_a_server_that_is_not_there_yet_is_found_within_the_retries(unused_tcp_port: int) -> None:
    async def get_turn(request: object, context: Any) -> Turn:
        return Turn(name="x")

    target = f"127.0.0.1:{unused_tcp_port}"
    async with ConversationClient(target, timeout=10) as client:
        with pytest.raises(Unavailable):
            await client.get_turn("conversations/c/turns/1")
        async with serving(port=unused_tcp_port, GetTurn=get_turn), asyncio.timeout(8):
            while True:
                try:
                    assert (await client.get_turn("conversations/c/turns/1")).name == "x"
                    break
                except Unavailable:
                    continue
    with BlockingClient(target, timeout=5) as blocking, pytest.raises(Unavailable):
        await asyncio.to_thread(blocking.get_turn, "conversations/c/turns/1")
