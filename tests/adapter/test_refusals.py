"""What the doors do with who may not, and with whom nobody can say."""

import time
from collections.abc import Callable

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from adapter.access.admission import NotAllowed, Undecided
from adapter.application.callback import AppAccount, AppDoor
from adapter.backoff import Backoff
from adapter.bot.inbox import BotInbox
from adapter.callbacks.gate import Gate
from adapter.callbacks.last_delivery import LastDelivery
from adapter.callbacks.listening import listening
from adapter.crypto import Envelope
from adapter.metrics import Metrics
from adapter.translate import Address, Incoming
from adapter.wire import AppMessage, envelope_xml, message_xml
from weconverse.v1.conversation_pb2 import Content, Sender


def incoming(number: int) -> Incoming:
    address = msgspec.json.encode(Address(door="bot", user="u", req_id="r"))
    return Incoming("conversations/c", f"id{number}", Content(), Sender(id="u"), address)


class Recorder:
    """Takes what it is asked to, and notes the rest."""

    def __init__(self, says: Callable[[Incoming], Exception | None]) -> None:
        self.seen: list[str] = []
        self.registry = CollectorRegistry()
        self._says = says

    async def submit(self, message: Incoming, _seconds: float) -> None:
        if (error := self._says(message)) is not None:
            raise error
        self.seen.append(f"taken {message.request_id}")

    async def tell(self, message: Incoming, words: str) -> None:
        self.seen.append(f"told {message.request_id} {words}")

    def counted(self, result: str) -> float:
        labels = {"door": "bot", "result": result}
        return self.registry.get_sample_value("weconverse_adapter_messages_total", labels) or 0.0

    async def offer(self, count: int, clock: Callable[[], float]) -> None:
        metrics = Metrics(self.registry)
        inbox = BotInbox(
            self.submit, self.tell, metrics, account="a", backoff=lambda: Backoff(0.001, 0.002), clock=clock
        )
        async with inbox:
            for number in range(count):
                inbox.put(incoming(number))
            await inbox.drain(5)
            assert inbox.waiting == 0


async def test_a_refused_message_is_answered_in_its_place_and_not_offered_again() -> None:
    recorder = Recorder(lambda message: NotAllowed("不行") if message.request_id == "id1" else None)
    await recorder.offer(3, lambda: 0.0)
    assert recorder.seen == ["taken id0", "told id1 不行", "taken id2"]
    assert (recorder.counted("refused"), recorder.counted("taken")) == (1, 2)


async def test_who_was_told_often_enough_is_told_nothing() -> None:
    recorder = Recorder(lambda _: NotAllowed(""))
    await recorder.offer(3, lambda: 0.0)
    assert recorder.seen == []
    assert recorder.counted("refused") == 3


async def test_of_whom_nobody_knows_waits_and_holds_its_place() -> None:
    offers = 0

    def says(message: Incoming) -> Exception | None:
        nonlocal offers
        offers += message.request_id == "id0"
        return Undecided("稍后") if message.request_id == "id0" and offers < 5 else None

    recorder = Recorder(says)
    await recorder.offer(2, lambda: 0.0)
    assert recorder.seen == ["taken id0", "taken id1"]


async def test_of_whom_nobody_knows_for_half_a_minute_is_told_so_and_the_next_ones_go_on() -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 3.0
        return now

    recorder = Recorder(lambda message: Undecided("稍后") if message.request_id == "id0" else None)
    await recorder.offer(2, clock)
    assert recorder.seen == ["told id0 稍后", "taken id1"]
    assert recorder.counted("not_taken") == 1
    assert 30 <= now < 60


# --- which delivery of a callback is the last one ------------------------------------------


@pytest.mark.parametrize(
    ("delivered", "last"),
    [
        ([100, 105, 110], [False, False, True]),
        # Every one with the time of the first: counted.
        ([100, 100, 100], [False, False, True]),
        # The first two went to another replica: told by the age.
        ([110], [True]),
        ([105, 110], [False, True]),
    ],
)
def test_the_last_delivery_is_known_by_number_or_by_age(delivered: list[int], last: list[bool]) -> None:
    deliveries = LastDelivery()
    assert [deliveries.is_it("a", "m", written_at=100, delivered_at=at) for at in delivered] == last


def test_messages_are_counted_apart_and_forgotten_after_a_while() -> None:
    now = 0.0
    deliveries = LastDelivery(lambda: now)

    def is_it(account: str, message: str) -> bool:
        return deliveries.is_it(account, message, written_at=100, delivered_at=100)

    assert not any(is_it(account, message) for account in "ab" for message in "mn" for _ in range(2))
    assert is_it("a", "m")
    now = 61.0
    assert not is_it("a", "n")


# --- what an application hears of the address book ------------------------------------------


async def test_a_change_of_the_address_book_is_handed_on() -> None:
    heard: list[tuple[str, str]] = []

    async def submit(_message: Incoming, _seconds: float) -> None:
        raise AssertionError("nobody wrote")

    envelope = Envelope("Token", "A" * 43, "ww1")
    account = AppAccount(envelope, submit, directory_changed=lambda change, user: heard.append((change, user)))
    metrics = Metrics(CollectorRegistry())
    application = web.Application()
    application.add_routes(AppDoor({"assistant": account}, Gate(metrics), metrics).routes())
    limits = {"keepalive_seconds": 1.0, "drain_seconds": 0.1, "max_connections": 10}
    async with listening(application, "127.0.0.1:0", **limits) as port, aiohttp.ClientSession() as session:
        for fields in ({"ChangeType": "delete_user", "UserID": "ChenJie"}, {"ChangeType": "create_party", "Id": "7"}):
            message = AppMessage(
                from_user="sys", create_time=1, msg_type="event", event="change_contact", fields=fields
            )
            sealed = envelope.seal(message_xml(message), str(int(time.time())), "n")
            query = {"msg_signature": sealed.msg_signature, "timestamp": sealed.timestamp, "nonce": sealed.nonce}
            url, body = f"http://127.0.0.1:{port.number}/wecom/app/assistant", envelope_xml(sealed, "ww1", "1")
            async with session.post(url, params=query, data=body) as answer:
                assert (answer.status, await answer.read()) == (200, b"")
    assert heard == [("delete_user", "ChenJie"), ("create_party", "")]
