"""The long connection, against a peer that does what each test wants with every frame."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from adapter.backoff import Backoff
from adapter.bot.connection import BotConnection, connecting
from adapter.bot.errors import AckMissing, ConnectionLost, FrameRefused, SubscribeRefused
from adapter.bot.inbox import BotInbox, InboxFull
from adapter.bot.line import BotLine, Kicked, PushRefused
from adapter.metrics import Metrics
from adapter.translate import UNREACHABLE, Address, Incoming
from adapter.wire import Frame, ack_frame, callback_frame, event_frame, parse_frame, stream_frame
from program.secret import Secret
from weconverse import Content, Sender, Unavailable

Handler = Callable[[web.WebSocketResponse, Frame], Awaitable[None]]


async def acknowledge(socket: web.WebSocketResponse, frame: Frame) -> None:
    await socket.send_str(ack_frame(frame.req_id, 0, "ok"))


class Platform:
    """The far end. Subscriptions are answered by ``subscribe``, everything else by ``handle``."""

    def __init__(self) -> None:
        self.subscribe: Handler = acknowledge
        self.handle: Handler = acknowledge
        self.frames: list[Frame] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.url = ""
        self.news = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(timeout=0.2)
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            frame = parse_frame(message.data)
            self.frames.append(frame)
            self.news.set()
            with suppress(ConnectionError):
                await (self.subscribe if frame.cmd == "aibot_subscribe" else self.handle)(socket, frame)
        return socket

    async def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.news.clear()
                await self.news.wait()

    def count(self, cmd: str) -> int:
        return sum(frame.cmd == cmd for frame in self.frames)


@asynccontextmanager
async def platform() -> AsyncIterator[tuple[Platform, aiohttp.ClientSession]]:
    peer = Platform()
    application = web.Application()
    application.add_routes([web.get("/openws", peer.serve)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    peer.url = f"http://127.0.0.1:{runner.addresses[0][1]}/openws"
    async with aiohttp.ClientSession() as session:
        try:
            yield peer, session
        finally:
            await runner.cleanup()


def opening(peer: Platform, session: aiohttp.ClientSession, metrics: Metrics, **timing: float) -> Any:
    seconds = {"connect_seconds": 2.0, "ack_seconds": 0.1, "heartbeat_seconds": 30.0} | timing
    return connecting(session, peer.url, metrics, **seconds)


@asynccontextmanager
async def subscribed(**timing: float) -> AsyncIterator[tuple[Platform, BotConnection, CollectorRegistry]]:
    registry = CollectorRegistry()
    async with platform() as (peer, session), opening(peer, session, Metrics(registry), **timing) as connection:
        await connection.subscribe("bot", Secret("s"), 1.0)
        reading = asyncio.create_task(_drain(connection))
        try:
            yield peer, connection, registry
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _drain(connection: BotConnection) -> list[Frame]:
    return [frame async for frame in connection.pushes()]


def refresh(connection: BotConnection, text: str, req_id: str = "r1") -> Awaitable[None]:
    return connection.request(req_id, stream_frame(req_id, "s", text, finish=False), "aibot_respond_msg")


async def test_frames_of_one_req_id_go_one_by_one_and_of_others_in_parallel() -> None:
    async with subscribed(ack_seconds=2.0) as (peer, connection, _):
        held: list[tuple[web.WebSocketResponse, Frame]] = []

        async def hold(socket: web.WebSocketResponse, frame: Frame) -> None:
            held.append((socket, frame))

        peer.handle = hold
        sends = [
            asyncio.create_task(_awaited(refresh(connection, text, req)))
            for text, req in [("a1", "a"), ("a2", "a"), ("b1", "b")]
        ]
        await peer.until(lambda: len(held) == 2)
        assert {frame.req_id for _, frame in held} == {"a", "b"}
        for socket, frame in list(held):
            await acknowledge(socket, frame)
        await peer.until(lambda: len(held) == 3)
        assert held[2][1].body["stream"]["content"] == "a2"
        await acknowledge(*held[2])
        await asyncio.gather(*sends)


async def _awaited(one: Awaitable[None]) -> None:
    await one


async def test_a_late_ack_is_not_taken_for_the_next_frame() -> None:
    async with subscribed(ack_seconds=0.2) as (peer, connection, _registry):
        held: list[tuple[web.WebSocketResponse, Frame]] = []

        async def hold(socket: web.WebSocketResponse, frame: Frame) -> None:
            held.append((socket, frame))

        peer.handle = hold
        first = asyncio.create_task(_awaited(refresh(connection, "first")))
        await peer.until(lambda: len(held) == 1)
        first.cancel()  # its sender is gone, its acknowledgement still comes
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.create_task(_awaited(refresh(connection, "second")))
        await asyncio.sleep(0.05)
        assert len(held) == 1
        socket, frame = held[0]
        await socket.send_str(ack_frame(frame.req_id, 0, "ok"))
        await peer.until(lambda: len(held) == 2)
        await socket.send_str(ack_frame(frame.req_id, 846608, "expired"))
        with pytest.raises(FrameRefused) as refused:
            await second
        assert refused.value.code == 846608


@pytest.mark.parametrize(("code", "told"), [(0, True), (846608, False), (None, False)])
async def test_a_cancelled_sender_learns_what_became_of_its_frame(code: int | None, told: bool) -> None:
    async with subscribed(ack_seconds=0.2) as (peer, connection, _registry):
        held: list[tuple[web.WebSocketResponse, Frame]] = []
        taken: list[None] = []

        async def hold(socket: web.WebSocketResponse, frame: Frame) -> None:
            held.append((socket, frame))

        peer.handle = hold
        frame = stream_frame("r1", "s", "text", finish=True)
        sending = asyncio.create_task(connection.request("r1", frame, "aibot_respond_msg", lambda: taken.append(None)))
        await peer.until(lambda: len(held) == 1)
        sending.cancel()
        if code is None:
            await connection.aclose()
        else:
            await held[0][0].send_str(ack_frame("r1", code, "ok"))
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert bool(taken) is told


async def test_an_ack_in_the_second_half_counts_and_is_counted() -> None:
    async with subscribed(ack_seconds=0.1) as (peer, connection, registry):

        async def slowly(socket: web.WebSocketResponse, frame: Frame) -> None:
            await asyncio.sleep(0.15)
            await acknowledge(socket, frame)

        peer.handle = slowly
        await refresh(connection, "a")
        assert registry.get_sample_value("weconverse_adapter_late_acks_total", {"result": "late"}) == 1


async def test_a_connection_that_acknowledges_nothing_is_closed() -> None:
    async with subscribed(ack_seconds=0.02) as (peer, connection, _):

        async def ignore(_socket: web.WebSocketResponse, _frame: Frame) -> None:
            return

        peer.handle = ignore
        for number in range(3):
            with pytest.raises(AckMissing):
                await refresh(connection, "a", f"r{number}")
        with pytest.raises(ConnectionLost):
            await refresh(connection, "a", "r9")


async def test_waiting_senders_learn_that_the_connection_ended() -> None:
    async with subscribed(ack_seconds=5.0) as (peer, connection, _):

        async def close(socket: web.WebSocketResponse, _frame: Frame) -> None:
            await socket.close()

        peer.handle = close
        with pytest.raises(ConnectionLost):
            await refresh(connection, "a")


async def test_two_missed_heartbeats_end_the_connection() -> None:
    async with subscribed(ack_seconds=0.02, heartbeat_seconds=0.05) as (peer, connection, _):

        async def deaf_to_pings(socket: web.WebSocketResponse, frame: Frame) -> None:
            if frame.cmd != "ping":
                await acknowledge(socket, frame)

        await asyncio.wait_for(_beats(connection, peer, 3), 2)
        peer.handle = deaf_to_pings
        await asyncio.wait_for(connection.beat(), 2)
        with pytest.raises(ConnectionLost):
            await refresh(connection, "a")


async def _beats(connection: BotConnection, peer: Platform, count: int) -> None:
    beating = asyncio.create_task(connection.beat())
    await peer.until(lambda: peer.count("ping") >= count)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)


async def test_a_ping_of_the_platform_is_answered() -> None:
    async with subscribed() as (peer, _, _registry):
        await peer.sockets[0].send_str('{"cmd":"ping","headers":{"req_id":"p1"}}')
        await peer.until(lambda: peer.count("pong") == 1)
        assert peer.frames[-1].req_id == "p1"


async def test_binary_frames_and_raw_control_characters_are_read() -> None:
    async with platform() as (peer, session), opening(peer, session, Metrics(CollectorRegistry())) as connection:
        await connection.subscribe("bot", Secret("s"), 1.0)
        pushes = connection.pushes()
        frame = callback_frame("r1", {"msgid": "m", "msgtype": "text", "text": {"content": "a"}})
        await peer.sockets[0].send_bytes(frame.encode())
        assert (await anext(pushes)).body["msgid"] == "m"
        await peer.sockets[0].send_str(frame.replace('"a"', '"a\x01\x0bb"'))
        assert (await anext(pushes)).body["text"]["content"] == "a\x01\x0bb"
        await peer.sockets[0].send_str("no frame")
        await peer.sockets[0].send_str(frame)
        assert (await anext(pushes)).req_id == "r1", "what is no frame is passed over"
        await pushes.aclose()


async def test_subscribing_has_a_time_out_and_says_what_was_refused() -> None:
    async def silent(_socket: web.WebSocketResponse, _frame: Frame) -> None:
        return

    async def refuse(socket: web.WebSocketResponse, frame: Frame) -> None:
        await socket.send_str(ack_frame(frame.req_id, 853000, "invalid credential"))

    async with platform() as (peer, session):
        for handler, kind in ((silent, ConnectionLost), (refuse, SubscribeRefused)):
            peer.subscribe = handler
            async with opening(peer, session, Metrics(CollectorRegistry())) as connection:
                with pytest.raises(kind):
                    await connection.subscribe("bot", Secret("s"), 0.1)


# --- the line ---------------------------------------------------------------------------


@asynccontextmanager
async def line_to(
    peer: Platform,
    session: aiohttp.ClientSession,
    on_push: Callable[[Frame], None] = lambda _: None,
    refused_first: float = 0.01,
) -> AsyncIterator[tuple[BotLine, "asyncio.Task[None]"]]:
    metrics = Metrics(CollectorRegistry())
    line = BotLine(
        lambda: opening(peer, session, metrics),
        metrics,
        account="a",
        bot_id="bot",
        secret=Secret("s"),
        subscribe_seconds=0.5,
        backoff=Backoff(0.01, 0.05),
        refused_backoff=Backoff(refused_first, 100.0, randomness=lambda: 0.0),
    )
    keeping = asyncio.create_task(line.keep(on_push))
    try:
        yield line, keeping
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def say(line: BotLine, req_id: str = "r1") -> Awaitable[None]:
    return line.request(req_id, stream_frame(req_id, "s", "text", finish=True), "aibot_respond_msg", wait_seconds=3.0)


async def test_a_lost_connection_is_opened_and_subscribed_again() -> None:
    async with platform() as (peer, session), line_to(peer, session) as (line, _):
        for number in range(3):
            await say(line, f"r{number}")
            await peer.sockets[-1].close()
            await peer.until(lambda count=number + 2: peer.count("aibot_subscribe") == count)  # type: ignore[misc]


async def test_a_dropped_subscription_is_renewed_and_the_frame_repeated_once() -> None:
    async with platform() as (peer, session), line_to(peer, session) as (line, _):
        refusals = 1

        async def not_subscribed(socket: web.WebSocketResponse, frame: Frame) -> None:
            nonlocal refusals
            refusals -= 1
            await socket.send_str(ack_frame(frame.req_id, 846609 if refusals >= 0 else 0, ""))

        peer.handle = not_subscribed
        await say(line)
        assert peer.count("aibot_subscribe") == 2
        assert peer.count("aibot_respond_msg") == 2
        refusals = 100
        with pytest.raises(FrameRefused):
            await say(line)
        assert peer.count("aibot_respond_msg") == 4


async def test_a_conflict_is_tried_again_three_times() -> None:
    async with platform() as (peer, session), line_to(peer, session) as (line, _):
        refusals = 2

        async def conflict(socket: web.WebSocketResponse, frame: Frame) -> None:
            nonlocal refusals
            refusals -= 1
            await socket.send_str(ack_frame(frame.req_id, 6000 if refusals >= 0 else 0, ""))

        peer.handle = conflict
        await say(line)
        assert peer.count("aibot_respond_msg") == 3


async def test_a_wrong_secret_is_not_hammered() -> None:
    async with platform() as (peer, session):

        async def refuse(socket: web.WebSocketResponse, frame: Frame) -> None:
            await socket.send_str(ack_frame(frame.req_id, 853000, "invalid credential"))

        peer.subscribe = refuse
        async with line_to(peer, session, refused_first=0.1):
            await asyncio.sleep(0.45)
            assert peer.count("aibot_subscribe") <= 3  # at 0, 0.1 and 0.3 s; the next at 0.7


async def test_a_kick_ends_the_line_without_another_connection() -> None:
    async with platform() as (peer, session), line_to(peer, session) as (line, keeping):
        await say(line)
        body = {"msgtype": "event", "event": {"eventtype": "disconnected_event"}}
        await peer.sockets[0].send_str(event_frame("e", body))
        with pytest.raises(Kicked):
            await asyncio.wait_for(keeping, 2)
        assert len(peer.sockets) == 1
        assert not line.subscribed


async def test_a_push_that_cannot_be_taken_costs_the_connection() -> None:
    def refuse(_frame: Frame) -> None:
        raise PushRefused

    async with platform() as (peer, session), line_to(peer, session, refuse) as (line, _):
        await say(line)
        await peer.sockets[0].send_str(callback_frame("r", {"msgid": "m"}))
        async with asyncio.timeout(2):
            while line.subscribed:
                await asyncio.sleep(0.01)


# --- the inbox --------------------------------------------------------------------------


def incoming(conversation: str, number: int) -> Incoming:
    address = msgspec.json.encode(Address(door="bot", user="u", req_id="r"))
    return Incoming(f"conversations/{conversation}", f"id{number}", Content(), Sender(id="u"), address)


class Recorder:
    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self.told: list[str] = []
        self.away: set[str] = set()

    async def submit(self, message: Incoming, _seconds: float) -> None:
        if message.conversation.removeprefix("conversations/") in self.away:
            raise Unavailable("away")
        await asyncio.sleep(0)
        self.taken.append((message.conversation, message.request_id))

    async def tell(self, _message: Incoming, words: str) -> None:
        self.told.append(words)


def inbox_of(recorder: Recorder, **options: Any) -> BotInbox:
    metrics = Metrics(CollectorRegistry())
    return BotInbox(
        recorder.submit, recorder.tell, metrics, account="a", backoff=lambda: Backoff(0.01, 0.02), **options
    )


async def test_messages_of_a_conversation_keep_their_order_and_hold_nobody_else_up() -> None:
    recorder = Recorder()
    recorder.away = {"held"}
    async with inbox_of(recorder) as inbox:
        for number in range(5):
            inbox.put(incoming("held", number))
            inbox.put(incoming("free", number))
        async with asyncio.timeout(2):
            while inbox.waiting > 5:
                await asyncio.sleep(0.005)
        recorder.away = set()
        await inbox.drain(2)
        for name in ("held", "free"):
            mine = [request for conversation, request in recorder.taken if conversation.endswith(name)]
            assert mine == [f"id{number}" for number in range(5)]
        assert inbox.waiting == 0


async def test_a_full_inbox_says_so_and_forgets_nothing() -> None:
    recorder = Recorder()
    recorder.away = {"c"}
    async with inbox_of(recorder, max_waiting=3) as inbox:
        for number in range(3):
            inbox.put(incoming("c", number))
        with pytest.raises(InboxFull):
            inbox.put(incoming("c", 3))
        recorder.away = set()
        await inbox.drain(2)
        inbox.put(incoming("c", 3))
        await inbox.drain(2)
        assert len(recorder.taken) == 4


async def test_who_is_given_up_is_told() -> None:
    recorder = Recorder()
    recorder.away = {"c"}
    async with inbox_of(recorder, window_seconds=0.1) as inbox:
        inbox.put(incoming("c", 0))
        await inbox.drain(2)
        assert recorder.told == [UNREACHABLE]
