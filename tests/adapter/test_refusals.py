"""What the doors do with who may not, and with whom nobody can say."""

from collections.abc import Callable

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from adapter.admission import NotAllowed, Undecided
from adapter.backoff import Backoff
from adapter.bot_inbox import BotInbox
from adapter.last_delivery import LastDelivery
from adapter.metrics import Metrics
from adapter.translate import Address, Incoming
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
