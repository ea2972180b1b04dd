"""Leases and the application's courier, with the fake service on a real port."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from adapter.application.courier import AppCourier
from adapter.application.sending import Outlet, Progress, read_progress
from adapter.backoff import Backoff
from adapter.bot.pieces import Words, pieces_of
from adapter.delivery import Lease
from adapter.metrics import Metrics
from adapter.outcome import Courier, Delivered, Outcome, Record, Retry, Undeliverable, Waiting
from adapter.recently_sent import MemberPace, RecentlySent
from adapter.rest import api
from adapter.rest.errors import CredentialRefused, ReceiverRefused, SlowDown, WeComError, WeComUnreachable
from adapter.text.render import BOT_STREAM_LIMIT
from adapter.translate import Address
from weconverse import Content, ConversationClient, Delivery, DeliveryResult, Part, Turn, Unavailable
from weconverse.testing import FakeService

ACCOUNT = "channels/wecom/accounts/a"
LONG = "\n\n".join(f"第{number}段" + "字" * 500 for number in range(4))


class Sent:
    """Stands for the HTTP interface: keeps what is sent, fails when told to, suppresses duplicates as WeCom does."""

    def __init__(self) -> None:
        self.tried: list[tuple[str, bool]] = []
        self.shown: list[str] = []
        self.errors: list[WeComError | None] = []
        self.hold: asyncio.Event | None = None
        self.lose_answers = 0
        self._seen: set[str] = set()

    async def send(self, call: str, body: bytes, *, repeatable: bool) -> api.Sent:
        request = msgspec.json.decode(body)
        duplicate_check = bool(request.get("enable_duplicate_check"))
        assert (call, repeatable) == ("message/send", duplicate_check)
        content = request[request["msgtype"]]["content"]
        self.tried.append((content, duplicate_check))
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        if not (duplicate_check and content in self._seen):
            self.shown.append(content)
        if duplicate_check:
            self._seen.add(content)
        if self.hold is not None:
            await self.hold.wait()
        if self.lose_answers:
            self.lose_answers -= 1
            raise WeComUnreachable("lost", maybe_done=True)
        return api.Sent("m", missed=False)


def courier_for(sent: Sent, recently: RecentlySent | None = None) -> AppCourier:
    outlet = Outlet(
        api=cast("api.WeComApi", sent),
        metrics=Metrics(CollectorRegistry()),
        agent_id=7,
        interval=600,
        sent=recently or RecentlySent(600),
        pace=MemberPace(0, 0),
        group_pace=MemberPace(0, 0),
        markdown=False,
        cards=True,
    )
    return AppCourier(outlet, longest_pause=100.0)


def delivery_of(reply: str, *, turn: str = "1", attempt: int = 1, progress: bytes = b"") -> Delivery:
    return Delivery(
        turn=f"conversations/c/turns/{turn}",
        address=msgspec.json.encode(Address(door="app", user="zhangwei")),
        attempt=attempt,
        progress=progress,
        ended_turn=Turn(reply=Content(parts=[Part(text=reply)])),
    )


class Records:
    def __init__(self) -> None:
        self.all: list[bytes] = []

    async def __call__(self, progress: bytes) -> None:
        self.all.append(progress)


async def test_parts_are_sent_in_order_and_recorded_between() -> None:
    sent, records = Sent(), Records()
    assert await courier_for(sent).deliver(delivery_of(LONG), records) == Delivered()
    assert len(sent.shown) > 2
    assert [read_progress(record).sent for record in records.all] == list(range(1, len(sent.shown)))
    assert all(check for _, check in sent.tried)


@pytest.mark.parametrize("reason", [Turn.MERGED, Turn.HANDED_OFF])
async def test_a_message_that_the_next_answer_covers_or_a_person_answers_shows_nothing(
    reason: Turn.FinishReason.ValueType,
) -> None:
    sent, delivery = Sent(), delivery_of("")
    delivery.ended_turn.finish_reason = reason
    assert await courier_for(sent).deliver(delivery, Records()) == Delivered()
    assert not sent.tried


async def test_that_a_person_takes_over_is_said() -> None:
    sent, delivery = Sent(), delivery_of("已为您转给同事")
    delivery.ended_turn.finish_reason = Turn.HANDED_OFF
    assert await courier_for(sent).deliver(delivery, Records()) == Delivered()
    assert sent.shown == ["已为您转给同事"]


async def test_the_next_attempt_continues_at_the_part_that_is_missing() -> None:
    whole = Sent()
    await courier_for(whole).deliver(delivery_of(LONG), Records())
    for cut in range(len(whole.shown)):
        sent, records = Sent(), Records()
        sent.errors = [None] * cut + [SlowDown(45009, "message/send", 100.0)]
        outcome = await courier_for(sent).deliver(delivery_of(LONG), records)
        assert isinstance(outcome, Waiting)
        assert read_progress(outcome.progress) == Progress(cut, 1, 1)
        again = delivery_of(LONG, attempt=2, progress=outcome.progress)
        assert await courier_for(sent).deliver(again, records) == Delivered()
        assert sent.shown == whole.shown


async def test_a_part_whose_answer_was_lost_is_suppressed_the_second_time() -> None:
    sent, records = Sent(), Records()
    sent.lose_answers = 1
    outcome = await courier_for(sent).deliver(delivery_of("一句话"), records)
    assert isinstance(outcome, Retry)
    again = delivery_of("一句话", attempt=2, progress=outcome.progress)
    assert await courier_for(sent).deliver(again, records) == Delivered()
    assert sent.shown == ["一句话"]
    assert len(sent.tried) == 2


async def test_equal_answers_of_two_turns_are_both_shown() -> None:
    sent, courier = Sent(), None
    courier = courier_for(sent)
    for turn in ("1", "2", "3"):
        await courier.deliver(delivery_of("好的", turn=turn), Records())
    assert sent.shown == ["好的"] * 3
    assert [check for _, check in sent.tried] == [True, False, False]


async def test_an_attempt_of_unknown_fate_always_has_the_check_on() -> None:
    sent, recently = Sent(), RecentlySent(600)
    courier = courier_for(sent, recently)
    await courier.deliver(delivery_of("好的", turn="1"), Records())
    await courier.deliver(delivery_of("好的", turn="2", attempt=2), Records())
    assert sent.tried[-1] == ("好的", True)


async def test_an_attempt_that_was_put_off_knowingly_may_have_the_check_off() -> None:
    sent = Sent()
    courier = courier_for(sent)
    await courier.deliver(delivery_of("好的", turn="1"), Records())
    sent.errors = [SlowDown(45009, "message/send", 100.0)]
    outcome = await courier.deliver(delivery_of("好的", turn="2"), Records())
    assert isinstance(outcome, Waiting)
    await courier.deliver(delivery_of("好的", turn="2", attempt=2, progress=outcome.progress), Records())
    assert sent.shown == ["好的", "好的"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ReceiverRefused(81013, "message/send"), Undeliverable),
        # Nothing was sent, and it is not the answer's fault: no count of attempts gives it up.
        (SlowDown(45009, "message/send", 100.0), Waiting),
        (CredentialRefused(40001, "gettoken", 120.0), Waiting),
        (WeComUnreachable("x", maybe_done=False), Waiting),
        (WeComUnreachable("x", maybe_done=True), Retry),
    ],
)
async def test_errors_become_outcomes(error: WeComError, outcome: type[Outcome]) -> None:
    sent = Sent()
    sent.errors = [error]
    result = await courier_for(sent).deliver(delivery_of("x"), Records())
    assert type(result) is outcome
    if isinstance(result, Retry | Waiting):
        assert 0 < result.after <= 100


async def test_a_short_frequency_limit_is_waited_for() -> None:
    sent = Sent()
    sent.errors = [SlowDown(45033, "message/send", 0.01)] * 3
    assert await courier_for(sent).deliver(delivery_of("x"), Records()) == Delivered()


async def test_a_foreign_address_is_undeliverable() -> None:
    delivery = delivery_of("x")
    delivery.address = b"\x00"
    assert isinstance(await courier_for(Sent()).deliver(delivery, Records()), Undeliverable)


@given(st.integers(min_value=0, max_value=4), st.text(alphabet="字a\n。 ", max_size=200), st.integers(1, 400))
def test_halved_parts_are_cuts_of_the_parts_before(level: int, text: str, repeat: int) -> None:
    reply = f"开头{text}" * repeat
    turn = Turn(reply=Content(parts=[Part(text=reply)]))
    pieces = pieces_of(turn, Address(door="bot", user="u"), level=level)
    parts = [piece.text for piece in pieces if isinstance(piece, Words)]
    assert len(parts) == len(pieces) > 0
    if level:
        assert all(len(part.encode()) <= BOT_STREAM_LIMIT >> level for part in parts)


# --- the lease --------------------------------------------------------------------------


class Recorded:
    """A courier that does what a test says."""

    def __init__(self, act: Callable[[Delivery, Record], Awaitable[Outcome]]) -> None:
        self.deliver = act
        self.seen: list[Delivery] = []


@asynccontextmanager
async def leased(
    courier: Courier, *, script: Any = None, **options: Any
) -> AsyncIterator[tuple[FakeService, ConversationClient, Lease]]:
    async with FakeService(script or (lambda _: "answer")) as fake, ConversationClient(fake.target) as client:
        lease = lease_of(client, courier, **options)
        running = asyncio.create_task(lease.run())
        try:
            yield fake, client, lease
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def lease_of(client: ConversationClient, courier: Courier, **options: Any) -> Lease:
    return Lease(
        client,
        courier,
        Metrics(CollectorRegistry()),
        account=ACCOUNT,
        instance="one",
        door="app",
        backoff=Backoff(0.01, 0.05),
        **{"ended_only": True, **options},
    )


async def submit(client: ConversationClient, number: int, conversation: str = "c") -> None:
    await client.submit(conversation, f"question {number}", request_id=str(number), account=ACCOUNT)


async def test_deliveries_are_reported_and_offered_again_after_a_retry() -> None:
    attempts: list[int] = []

    async def act(delivery: Delivery, record: Record) -> Outcome:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            return Retry(0.01, "later", b'{"sent":3}')
        assert delivery.progress == b'{"sent":3}'
        return Delivered()

    async with leased(Recorded(act)) as (fake, client, _):
        await submit(client, 1)
        await fake.until(lambda: any(result.outcome == DeliveryResult.DELIVERED for result in fake.results))
        assert attempts == [1, 2]


async def test_a_defect_in_one_delivery_leaves_the_others_alone() -> None:
    async def act(delivery: Delivery, record: Record) -> Outcome:
        if delivery.turn.endswith("/1"):
            raise KeyError("a defect")
        return Delivered()

    async with leased(Recorded(act)) as (fake, client, _):
        await submit(client, 1, "c1")
        await submit(client, 2, "c2")
        await fake.until(lambda: len(fake.results) == 2)
        assert {result.outcome for result in fake.results} == {DeliveryResult.RETRY, DeliveryResult.DELIVERED}


async def test_a_lost_lease_cancels_what_is_under_way_and_is_taken_again() -> None:
    cancelled: list[str] = []
    begun = asyncio.Event()

    async def act(delivery: Delivery, record: Record) -> Outcome:
        if delivery.attempt > 1:
            return Delivered()
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(delivery.turn)
            raise
        raise AssertionError

    async with leased(Recorded(act)) as (fake, client, _):
        await submit(client, 1)
        await begun.wait()
        fake.service.deliveries.close()  # ends the sessions as a stopping server does
        await fake.until(lambda: any(result.outcome == DeliveryResult.DELIVERED for result in fake.results))
        assert len(cancelled) == 1


async def test_a_revoked_lease_cancels_and_the_next_one_in_line_delivers() -> None:
    names: list[str] = []

    def courier(name: str) -> Recorded:
        async def act(delivery: Delivery, record: Record) -> Outcome:
            names.append(name)
            if delivery.attempt == 1:
                await asyncio.Event().wait()
            return Delivered()

        return Recorded(act)

    async with leased(courier("first"), exclusive=True) as (fake, client, _):
        await fake.until(lambda: len(fake.calls) >= 1)
        second = asyncio.create_task(lease_of(client, courier("second"), exclusive=True).run())
        await fake.until(lambda: len(fake.calls) >= 2)
        await submit(client, 1)
        while not names:
            await asyncio.sleep(0)
        fake.revoke(ACCOUNT)
        await fake.until(lambda: bool(fake.results))
        assert names == ["first", "second"]
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)


async def test_drain_finishes_what_is_under_way_and_takes_nothing_more() -> None:
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def act(delivery: Delivery, record: Record) -> Outcome:
        begun.set()
        await go_on.wait()
        return Delivered()

    async with FakeService(lambda _: "answer") as fake, ConversationClient(fake.target) as client:
        lease = lease_of(client, Recorded(act))
        running = asyncio.create_task(lease.run())
        await submit(client, 1, "c1")
        await begun.wait()
        draining = asyncio.create_task(lease.drain(5.0))
        await asyncio.sleep(0)
        await submit(client, 2, "c2")
        go_on.set()
        await asyncio.wait_for(asyncio.gather(draining, running), 3)
        assert [result.turn for result in fake.results] == ["conversations/c1/turns/1"]


async def test_drain_does_not_wait_for_ever() -> None:
    begun = asyncio.Event()

    async def act(delivery: Delivery, record: Record) -> Outcome:
        begun.set()
        await asyncio.Event().wait()
        return Delivered()

    async with FakeService(lambda _: "answer") as fake, ConversationClient(fake.target) as client:
        lease = lease_of(client, Recorded(act))
        running = asyncio.create_task(lease.run())
        await submit(client, 1)
        await begun.wait()
        await asyncio.wait_for(lease.drain(0.05), 2)
        await asyncio.wait_for(running, 3)
        assert not fake.results


async def test_leaving_gives_the_lease_up_and_comes_back() -> None:
    async def act(delivery: Delivery, record: Record) -> Outcome:
        return Delivered()

    async with leased(Recorded(act), exclusive=True) as (fake, _, lease):
        await fake.until(lambda: len(fake.calls) == 1)
        lease.leave(0.05)
        await fake.until(lambda: len(fake.calls) == 2)


async def test_a_service_that_is_away_is_asked_again() -> None:
    async def act(delivery: Delivery, record: Record) -> Outcome:
        return Delivered()

    async with FakeService(lambda _: "answer") as fake, ConversationClient(fake.target) as client:
        fake.fail_next(Unavailable("away"), method="Attach", times=3)
        running = asyncio.create_task(lease_of(client, Recorded(act)).run())
        await submit(client, 1)
        await fake.until(lambda: bool(fake.results))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
