"""Files from addresses that somebody else chose, against a hostile server on this machine."""

import asyncio
import io
import ipaddress
import logging
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from adapter.media.fetching import MediaMissing
from adapter.media.guarded_fetch import AddressGuard, GuardedFetch, is_public
from adapter.media.room import Claim, Room
from weconverse.v1.conversation_pb2 import Media

MIB = 1024 * 1024
LOOPBACK = [ipaddress.ip_network("127.0.0.1/32")]
SIGNATURE = "q-sign-0123456789"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, *hosts: str) -> AsyncIterator[str]:
    """A server on one port of these addresses; yields ``http://127.0.0.1:port``."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        for host in hosts:
            await web.TCPSite(runner, host, port).start()
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def fetch(url: str, *, most: int = 20 * MIB, **how: Any) -> bytes:
    """What a fetch yields from a server on loopback, which the settings allow unless ``how`` says otherwise."""
    how = {"allowed": LOOPBACK, "insecure_http": True, "connect_seconds": 1.0, **how}
    claim = Claim(Room(fetches=4, total_bytes=64 * MIB))
    async with GuardedFetch(**how) as guarded:
        pieces, _ = await guarded.get(url, most=most, claim=claim)
    return b"".join(pieces)


async def missing(url: str, **how: Any) -> str:
    with pytest.raises(MediaMissing) as caught:
        await fetch(url, **how)
    assert SIGNATURE not in str(caught.value)
    assert caught.value.__cause__ is None
    return Media.Missing.Name(caught.value.why)


# --- where a fetch may go ----------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.64.0.1", "192.0.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::",
    ],
)  # fmt: skip
def test_nobody_is_led_into_a_network_of_our_own(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    assert not AddressGuard().permits(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "101.226.103.5", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_good(address: str) -> None:
    assert AddressGuard().permits(address)


def test_a_private_network_is_good_only_where_it_is_named() -> None:
    guard = AddressGuard([ipaddress.ip_network("10.1.0.0/16")])
    assert guard.permits("10.1.9.9")
    assert guard.permits("::ffff:10.1.9.9")
    assert not guard.permits("10.2.0.1")
    assert not guard.permits("127.1")
    assert not guard.permits("localhost")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_a_number_written_in_a_strange_way_is_still_that_number(host: str) -> None:
    async def never(_request: web.Request) -> web.StreamResponse:
        raise AssertionError("reached")

    async with serving(never) as base:
        port = base.rpartition(":")[2]
        assert await missing(f"http://{host}:{port}/x?{SIGNATURE}", allowed=()) == "REFUSED"


@pytest.mark.parametrize(
    "url", ["http://8.8.8.8/x", "ftp://8.8.8.8/x", "file:///etc/passwd", "//8.8.8.8/x", "", "x", "https://",
            "https://a:b@8.8.8.8/x", "https://8.8.8.8:99999/x", "https://" + "a" * 5000, "https://[::1",
            "gopher://8.8.8.8/x", "data:text/plain,x"]
)  # fmt: skip
async def test_only_addresses_of_https_are_fetched(url: str) -> None:
    assert await missing(url, insecure_http=False) == "REFUSED"


async def test_hosts_can_be_listed() -> None:
    async with serving(_give(b"0123456789")) as base:
        port = base.rpartition(":")[2]
        resolver = Names(lambda _: "127.0.0.1")
        assert (
            await fetch(f"http://files.example.com:{port}/", resolver=resolver, hosts=["example.com"]) == b"0123456789"
        )
        for stranger in ("example.org", "badexample.com", "example.com.evil.org"):
            assert await missing(f"http://{stranger}:{port}/", resolver=resolver, hosts=["example.com"]) == "REFUSED"


class Names(AbstractResolver):
    """A resolver that says what a test wants: one address, or several with a blank between them."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self._answer = answer

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self._answer(host).split()
        ]

    async def close(self) -> None:
        pass


async def test_a_name_that_resolves_differently_the_second_time_leads_nowhere() -> None:
    reached: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        reached.append(str(request.transport.get_extra_info("sockname")[0]) if request.transport else "")
        return web.Response(body=b"0123456789")

    answers = iter(["127.0.0.1", "127.0.0.2", "127.0.0.2"])
    async with (
        serving(handler, "127.0.0.2") as base,
        GuardedFetch(allowed=LOOPBACK, insecure_http=True, resolver=Names(lambda _: next(answers))) as guarded,
    ):
        url = f"http://rebinding.example:{base.rpartition(':')[2]}/x"
        room = Room(fetches=1, total_bytes=MIB)
        assert (await guarded.get(url, most=MIB, claim=Claim(room)))[0] == [b"0123456789"]
        for _ in range(2):
            with pytest.raises(MediaMissing) as caught:
                await guarded.get(url, most=MIB, claim=Claim(room))
            assert caught.value.why == Media.REFUSED
    assert reached == ["127.0.0.1"]


@pytest.mark.parametrize("order", ["127.0.0.2 127.0.0.1", "127.0.0.1 127.0.0.2"])
async def test_of_several_addresses_of_a_name_only_good_ones_are_asked(order: str) -> None:
    async with serving(_give(b"0123456789")) as good:
        url = f"http://several.example:{good.rpartition(':')[2]}/x"
        assert await fetch(url, resolver=Names(lambda _: order)) == b"0123456789"
        assert await missing(url, resolver=Names(lambda _: "127.0.0.2 10.0.0.1 169.254.169.254")) == "REFUSED"


# --- redirects ---------------------------------------------------------------------------


def _leading(*places: str) -> Handler:
    """``/0`` leads to the first place, ``/1`` to the second, and so on; behind them all are ten bytes."""

    async def handler(request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["path"] or 0)
        if number < len(places):
            return web.Response(status=302, headers={"Location": places[number]})
        return web.Response(body=b"0123456789")

    return handler


async def test_three_redirects_are_followed_and_no_more() -> None:
    async with serving(_leading("/1", "2", "/3")) as base:
        assert await fetch(f"{base}/0") == b"0123456789"
    async with serving(_leading("/1", "/2", "/3", "/4")) as base:
        assert await missing(f"{base}/0") == "REFUSED"


@pytest.mark.parametrize(
    "place", ["http://169.254.169.254/latest/", "http://127.0.0.2/", "file:///etc/passwd", "", "http://[::1]/",
              "//localhost/", "http://[fe80::1%25eth0]/", "http://8.8.8.8@127.0.0.2/", "http://127.0.0.2#@8.8.8.8/",
              "http://8.8.8.8\\@127.0.0.2/", "http://0177.0.0.2/", "http://2130706434/", "http://0x7f.2/",
              "http://１２７.0.0.2/", "http://①②⑦.⓪.⓪.②/", "http://127.0.0.2./", "http://[::127.0.0.2]/", "http://xn--/",
              "ftp://8.8.8.8/", "javascript:alert(1)"]
)  # fmt: skip
async def test_no_redirect_leads_into_our_network(place: str) -> None:
    began = time.monotonic()
    async with serving(_leading(place)) as base:
        assert await missing(f"{base}/0?{SIGNATURE}", resolver=Names(lambda _: "10.0.0.1")) == "REFUSED"
    assert time.monotonic() - began < 5


# --- what comes back ---------------------------------------------------------------------


def _give(body: bytes, **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers=headers)

    return handler


def _stream(head: dict[str, str], pieces: Callable[[], AsyncIterator[bytes]]) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers=head)
        await response.prepare(request)
        try:
            async for piece in pieces():
                await response.write(piece)
        except ConnectionError:
            pass
        if request.transport is not None:
            request.transport.abort()
        return response

    return handler


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(MIB)


async def _dripping() -> AsyncIterator[bytes]:
    while True:
        yield b"x"
        await asyncio.sleep(0.2)


async def _short() -> AsyncIterator[bytes]:
    yield bytes(1000)


async def _silent() -> AsyncIterator[bytes]:
    yield b"x"
    await asyncio.sleep(20)


async def _nothing(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(20)
    return web.Response()


async def _gone(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=403, text=f"denied {SIGNATURE}")


LONG = {"Content-Length": str(100 * MIB)}

HOSTILE: dict[str, tuple[Handler, str]] = {
    "claims 100 MB and sends nothing": (_stream(LONG, _silent), "TOO_LARGE"),
    "claims 100 MB and sends them": (_stream(LONG, _endless), "TOO_LARGE"),
    "says no length and never ends": (_stream({}, _endless), "TOO_LARGE"),
    "is cut short": (_stream({"Content-Length": "5000"}, _short), "DAMAGED"),
    "is compressed": (_give(b"\x1f\x8b" + bytes(100), **{"Content-Encoding": "gzip"}), "DAMAGED"),
    "drips": (_stream({"Content-Length": "5000"}, _dripping), "UNAVAILABLE"),
    "goes silent": (_stream({"Content-Length": "5000"}, _silent), "UNAVAILABLE"),
    "never answers": (_nothing, "UNAVAILABLE"),
    "is gone": (_gone, "UNAVAILABLE"),
}


# What no framework would send: the first words, and what is said again and again behind them.
RAW: dict[str, tuple[bytes, bytes, str]] = {
    "drips headers": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", "UNAVAILABLE"),
    "says wait again and again": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "UNAVAILABLE"),
    "remarks beside a chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"remark", "UNAVAILABLE"
    ),
    "headers without end": (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 10_000, "UNAVAILABLE"),
    "a header without end": (b"HTTP/1.1 200 OK\r\nX-A: ", b"b" * 10_000, "UNAVAILABLE"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"abcde", "UNAVAILABLE"),
    "no answer at all": (b"hello\r\n", b"world\r\n", "UNAVAILABLE"),
}  # fmt: skip


async def _measured(handler: Handler) -> tuple[str, float]:
    async with serving(handler) as base:
        began = time.monotonic()
        why = await missing(f"{base}/x?{SIGNATURE}")
        return why, time.monotonic() - began


async def _measured_raw(first: bytes, again: bytes) -> tuple[str, float]:
    speaking: list[asyncio.Task[None]] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        speaking.append(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while not writer.is_closing():
                writer.write(again)
                await writer.drain()
                await asyncio.sleep(0.2)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        began = time.monotonic()
        why = await missing(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x?{SIGNATURE}")
        took = time.monotonic() - began
        # The other side of a connection that was left is known of a moment later.
        await asyncio.gather(*speaking)
        return why, took


async def test_hostile_files_cost_little_and_leave_no_address_in_any_log(capfd: pytest.CaptureFixture[str]) -> None:
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    root = logging.getLogger()
    level, root_handlers = root.level, list(root.handlers)
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    tracemalloc.start()
    try:
        with structlog.testing.capture_logs() as said:
            # Beside each other, because three of them take their time.
            outcomes = await asyncio.gather(
                *(_measured(hostile) for hostile, _ in HOSTILE.values()),
                *(_measured_raw(first, again) for first, again, _ in RAW.values()),
            )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        root.removeHandler(handler)
        root.setLevel(level)
        assert root.handlers == root_handlers
    assert {name: why for name, (why, _) in zip([*HOSTILE, *RAW], outcomes, strict=True)} == {
        name: case[-1] for name, case in [*HOSTILE.items(), *RAW.items()]
    }
    assert max(seconds for _, seconds in outcomes) < 5
    assert peak < 64 * MIB
    written = capfd.readouterr()
    for place in (heard.getvalue(), written.out, written.err, repr(said)):
        assert SIGNATURE not in place


async def test_what_fits_exactly_is_taken() -> None:
    async with serving(_give(bytes(1000))) as base:
        assert await fetch(base, most=1000) == bytes(1000)
        assert await missing(base, most=999) == "TOO_LARGE"
