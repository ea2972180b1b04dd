"""The callback port as the internet sees it: a real port, raw requests where a client library is too polite."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from adapter.application.callback import AppAccount, AppDoor
from adapter.callbacks.gate import Gate
from adapter.callbacks.listening import listening
from adapter.crypto import Envelope
from adapter.metrics import Metrics
from adapter.translate import UNREACHABLE, Incoming
from adapter.wire import AppMessage, envelope_xml, message_xml, parse_message
from weconverse import InputTooLong, Overloaded, RequestIdReused, Unavailable, WeConverseError

CORP = "ww1436e0e65a779aee"
KEY = "6qkdMrq68nTKduznJYO1A37W2oEgpkMUvkttRToqhUt"
ENVELOPE = Envelope("hJqcu3uJ9Tn2gXPmxx2w9kkCkCE2EPYo", KEY, CORP)


class Service:
    """Takes messages, or does what a test wants instead."""

    def __init__(self) -> None:
        self.taken: list[Incoming] = []
        self.error: WeConverseError | None = None
        self.late = False
        self.told: list[tuple[str, str]] = []
        self.asked = asyncio.Event()

    async def submit(self, incoming: Incoming, seconds: float) -> None:
        self.asked.set()
        if self.late:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.taken.append(incoming)

    async def tell(self, person: str, sentence: str) -> None:
        self.told.append((person, sentence))


class Port:
    """An open callback port."""

    def __init__(
        self, service: Service, number: int, registry: CollectorRegistry, session: aiohttp.ClientSession
    ) -> None:
        self.service = service
        self.number = number
        self.registry = registry
        self._session = session
        self.url = f"http://127.0.0.1:{number}/wecom/app/assistant"

    async def post(self, body: bytes, params: dict[str, str], **options: object) -> tuple[int, bytes]:
        async with self._session.post(options.pop("url", self.url), data=body, params=params, **options) as answer:
            return answer.status, await answer.read()

    async def get(self, params: dict[str, str]) -> tuple[int, bytes]:
        async with self._session.get(self.url, params=params) as answer:
            return answer.status, await answer.read()

    def rejected(self, reason: str) -> float:
        labels = {"reason": reason}
        return self.registry.get_sample_value("weconverse_adapter_callback_rejects_total", labels) or 0.0


@asynccontextmanager
async def port(
    *, max_connections: int = 100, submit_seconds: float = 3.5, body_seconds: float = 0.2
) -> AsyncIterator[Port]:
    service, registry = Service(), CollectorRegistry()
    metrics = Metrics(registry)
    gate = Gate(metrics, body_seconds=body_seconds)
    account = AppAccount(ENVELOPE, service.submit, "1000002", service.tell)
    door = AppDoor({"assistant": account}, gate, metrics, submit_seconds=submit_seconds)
    application = web.Application(client_max_size=64 * 1024)
    application.add_routes(door.routes())
    limits = {"keepalive_seconds": 0.3, "drain_seconds": 1.0, "max_connections": max_connections}
    async with listening(application, "127.0.0.1:0", **limits) as opened, aiohttp.ClientSession() as session:
        yield Port(service, opened.number, registry, session)


def text_message(msg_id: str = "7001", content: str = "你好") -> AppMessage:
    return AppMessage(
        to_user=CORP,
        from_user="zhangwei",
        create_time=int(time.time()),
        msg_type="text",
        msg_id=msg_id,
        agent_id="1000002",
        content=content,
    )


def sealed(message: AppMessage | bytes, *, age: float = 0.0) -> tuple[bytes, dict[str, str]]:
    plain = message if isinstance(message, bytes) else message_xml(message)
    envelope = ENVELOPE.seal(plain, str(int(time.time() - age)), "nonce1")
    query = {"msg_signature": envelope.msg_signature, "timestamp": envelope.timestamp, "nonce": envelope.nonce}
    return envelope_xml(envelope, CORP, "1000002"), query


async def test_address_check_answers_the_bare_plaintext() -> None:
    async with port() as callback:
        envelope = ENVELOPE.seal(b"1616140317555161061", str(int(time.time())), "n")
        query = {
            "msg_signature": envelope.msg_signature,
            "timestamp": envelope.timestamp,
            "nonce": "n",
            "echostr": envelope.encrypted,
        }
        assert await callback.get(query) == (200, b"1616140317555161061")
        assert await callback.get(query | {"echostr": "AAAA"}) == (403, b"")
        assert await callback.get({}) == (403, b"")


async def test_message_is_acknowledged_with_an_empty_body_once_it_is_taken() -> None:
    async with port() as callback:
        assert await callback.post(*sealed(text_message())) == (200, b"")
        assert [incoming.request_id for incoming in callback.service.taken] == ["7001"]


async def test_replays_inside_the_window_are_acknowledged_and_name_the_same_turn() -> None:
    async with port() as callback:
        body, query = sealed(text_message())
        answers = [await callback.post(body, query) for _ in range(100)]
        assert answers == [(200, b"")] * 100
        assert len({(incoming.conversation, incoming.request_id) for incoming in callback.service.taken}) == 1


@pytest.mark.parametrize("age", [-620, 620, 86400])
async def test_replays_outside_the_window_have_no_effect(age: float) -> None:
    async with port() as callback:
        body, query = sealed(text_message(), age=age)
        assert [await callback.post(body, query) for _ in range(100)] == [(403, b"")] * 100
        assert callback.service.taken == []
        assert callback.rejected("timestamp") == 100


async def test_every_failure_of_the_envelope_looks_the_same() -> None:
    body, query = sealed(text_message())
    wrong_corp = Envelope("hJqcu3uJ9Tn2gXPmxx2w9kkCkCE2EPYo", KEY, "wwother").seal(b"<xml/>", query["timestamp"], "n")
    bomb = b'<!DOCTYPE a [<!ENTITY b "c">]><xml><Encrypt>&b;</Encrypt></xml>'
    attempts = [
        (body, query | {"msg_signature": "0" * 40}),
        (body, query | {"nonce": "other"}),
        (body, query | {"timestamp": str(int(query["timestamp"]) - 1)}),
        (body, query | {"timestamp": "-5"}),
        (body, {}),
        (body.replace(b"<Encrypt>", b"<Encrypted>"), query),
        (b"", query),
        (b"\xff\xfe<xml>", query),
        (bomb, query),
        (
            envelope_xml(wrong_corp, CORP, "1"),
            {"msg_signature": wrong_corp.msg_signature, "timestamp": wrong_corp.timestamp, "nonce": "n"},
        ),
        sealed(b"not xml at all"),
    ]
    async with port() as callback:
        answers = {await callback.post(*attempt) for attempt in attempts}
        assert answers == {(403, b"")}
        assert callback.service.taken == []


async def test_unknown_kinds_and_events_are_acknowledged() -> None:
    event = AppMessage(from_user="sys", create_time=1, msg_type="event", event="never_heard_of", fields={"A": "b"})
    strange = AppMessage(from_user="zhangwei", create_time=1, msg_type="hologram", msg_id="5")
    async with port() as callback:
        assert await callback.post(*sealed(event)) == (200, b"")
        assert callback.service.taken == []
        assert await callback.post(*sealed(strange)) == (200, b"")


@pytest.mark.parametrize("error", [Overloaded("full", retry_after=1.0), WeConverseError("broken")])
async def test_what_the_service_does_not_take_is_left_to_be_repeated(error: WeConverseError) -> None:
    async with port() as callback:
        callback.service.error = error
        assert await callback.post(*sealed(text_message())) == (503, b"")


async def test_a_service_that_is_away_is_waited_for() -> None:
    async with port() as callback:
        callback.service.error = Unavailable("being started")
        under_way = asyncio.create_task(callback.post(*sealed(text_message())))
        await callback.service.asked.wait()
        callback.service.error = None
        assert await under_way == (200, b"")
        assert len(callback.service.taken) == 1


async def test_a_service_that_stays_away_is_not_waited_for_longer_than_wecom_waits() -> None:
    async with port(submit_seconds=0.1) as callback:
        callback.service.error = Unavailable("gone")
        assert await callback.post(*sealed(text_message())) == (503, b"")
        assert callback.service.taken == []


async def test_a_late_service_is_not_waited_for() -> None:
    async with port(submit_seconds=0.1) as callback:
        callback.service.late = True
        began = time.monotonic()
        assert await callback.post(*sealed(text_message())) == (503, b"")
        assert time.monotonic() - began < 2.0


def said(answer: tuple[int, bytes]) -> str:
    """What a passive reply says."""
    status, body = answer
    assert status == 200
    outer = parse_message(body).fields
    opened = ENVELOPE.open(*(outer[name] for name in ("MsgSignature", "TimeStamp", "Nonce", "Encrypt")))
    return parse_message(opened).content


async def test_what_the_service_will_never_take_is_answered_at_once() -> None:
    async with port() as callback:
        callback.service.error = InputTooLong("too long")
        assert said(await callback.post(*sealed(text_message()))) == "您的消息太长了，请精简或分成几条再发。"


async def test_a_person_hears_when_wecom_will_not_come_again() -> None:
    touched = event_message("template_card_event", {"EventKey": "我要退款", "TaskId": "t"})
    picture = msgspec.structs.replace(text_message("8"), msg_type="image", fields={"MediaId": "m"})
    async with port(submit_seconds=0.05) as callback:
        callback.service.error = Unavailable("gone")
        deliveries = [await callback.post(*sealed(text_message())) for _ in range(3)]
        assert deliveries[:2] == [(503, b"")] * 2
        assert said(deliveries[2]) == UNREACHABLE
        # A card stays as it is, and can be touched again.
        assert [await callback.post(*sealed(touched)) for _ in range(3)] == [(503, b"")] * 2 + [(200, b"")]
        assert callback.service.told == [("zhangwei", UNREACHABLE)]
        # What has files is offered to the service beyond that.
        assert [await callback.post(*sealed(picture)) for _ in range(3)] == [(503, b"")] * 3


def event_message(event: str, fields: dict[str, str]) -> AppMessage:
    rest = dict(fields)
    return msgspec.structs.replace(
        text_message("", ""), msg_type="event", event=event, event_key=rest.pop("EventKey", ""), fields=rest
    )


async def test_what_was_said_to_another_application_is_refused() -> None:
    async with port() as callback:
        other = msgspec.structs.replace(text_message(), agent_id="1000003")
        assert await callback.post(*sealed(other)) == (403, b"")
        assert (callback.rejected("agent"), callback.service.taken) == (1, [])
        # What the platform says of its own accord may name another one: an approval names its own.
        notice = msgspec.structs.replace(event_message("sys_approval_change", {}), from_user="sys", agent_id="3010040")
        assert await callback.post(*sealed(notice)) == (200, b"")


async def test_a_reused_message_id_is_acknowledged() -> None:
    async with port() as callback:
        callback.service.error = RequestIdReused("reused", metadata={"turn": "t"})
        assert await callback.post(*sealed(text_message())) == (200, b"")


async def test_unknown_account_is_not_found() -> None:
    async with port() as callback:
        url = callback.url.replace("assistant", "nobody")
        assert (await callback.post(*sealed(text_message()), url=url))[0] == 404


async def test_bodies_over_the_limit_are_refused_however_they_come() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(65):
            yield b"x" * 1024

    async with port() as callback:
        _, query = sealed(text_message())
        assert (await callback.post(b"x" * (64 * 1024 + 1), query))[0] == 413
        assert (await callback.post(chunks(), query))[0] == 413
        packed = gzip.compress(b"\0" * 50_000_000)
        assert len(packed) < 64 * 1024
        for _ in range(10):
            assert (await callback.post(packed, query, headers={"Content-Encoding": "gzip"}))[0] == 413
        assert callback.rejected("size") == 12


async def test_a_body_that_trickles_is_cut_off_while_others_are_served() -> None:
    body, query = sealed(text_message())
    async with port() as callback:
        target = "/wecom/app/assistant?" + "&".join(f"{key}={value}" for key, value in query.items())
        head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        slow = [await asyncio.open_connection("127.0.0.1", callback.number) for _ in range(20)]
        for _, writer in slow:
            writer.write(head + body[:10])
        assert (await callback.post(body, query))[0] == 200
        for reader, writer in slow:
            assert (await asyncio.wait_for(reader.readline(), 3)).startswith(b"HTTP/1.1 408")
            writer.close()
        assert callback.rejected("slow") == 20


async def test_a_stalled_header_is_closed() -> None:
    async with port() as callback:
        reader, writer = await asyncio.open_connection("127.0.0.1", callback.number)
        writer.write(b"POST /wecom/app/assistant HTTP/1.1\r\nHost: x\r\n")
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_connections_beyond_the_bound_are_closed_at_once() -> None:
    async with port(max_connections=5) as callback:
        held = [await asyncio.open_connection("127.0.0.1", callback.number) for _ in range(5)]
        reader, writer = await asyncio.open_connection("127.0.0.1", callback.number)
        assert await asyncio.wait_for(reader.read(), 2) == b""
        for _, one in [*held, (reader, writer)]:
            one.close()


async def test_a_callback_under_way_is_finished_when_the_port_closes() -> None:
    async with aiohttp.ClientSession() as session:
        async with port(submit_seconds=0.3) as callback:
            callback.service.late = True
            body, query = sealed(text_message())
            under_way = asyncio.create_task(_status(session, callback.url, body, query))
            await callback.service.asked.wait()
        assert await under_way == 503


async def _status(session: aiohttp.ClientSession, url: str, body: bytes, query: dict[str, str]) -> int:
    async with session.post(url, data=body, params=query) as answer:
        return answer.status
