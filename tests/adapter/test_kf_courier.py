"""The courier of customer service: against the local WeCom, with deliveries made by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from adapter.backoff import Backoff
from adapter.cards import CARD_TYPE, MESSAGE_TYPE
from adapter.kf.api import KfApi
from adapter.kf.courier import HandingOver, KfCourier, Progress, read_progress
from adapter.kf.errors import came_through_before
from adapter.kf.ledger import Ledger
from adapter.kf.render import File, Menu, Text, messages
from adapter.kf.service import KfService
from adapter.kf.wire import MenuItem, Receiver, message_id, text_message
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Retry, Undeliverable, Waiting
from adapter.rest.api import WeComApi
from adapter.rest.errors import SlowDown, refusal
from adapter.text.visible import has_visible
from adapter.translate import Address
from simulator.app import Simulator
from simulator.clock import SystemClock
from simulator.rules import Rules
from simulator.settings import ListenSettings, Settings
from weconverse import Content, ConversationClient, Delivery, Part, ResourceExhausted, Turn, text_of
from weconverse.testing import FakeService
from weconverse.v1.conversation_pb2 import Choice, HandOffConversationRequest, Media, SubmitTurnRequest

LIN, ZHOU = "wmSimulatorCustomer01", "wmSimulatorCustomer02"
DESK, PERSON = "wkSimulatorDesk0001", "zhangwei"
CONVERSATION = "conversations/c"


class Time(SystemClock):
    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Bench:
    """A courier between the local WeCom and a fake service, and one customer who wrote."""

    def __init__(
        self, sim: Simulator, clock: Time, fake: FakeService, api: KfApi, courier: KfCourier, ledger: Ledger
    ) -> None:
        self.api = api
        self.sim = sim
        self.clock = clock
        self.fake = fake
        self.courier = courier
        self.ledger = ledger
        self.records: list[Progress] = []
        self.forget: Callable[[], None] = lambda: None
        """Goes on as another process, which knows nothing of what was sent."""

    def turn(self, reply: str = "好", **more: Any) -> Turn:
        return Turn(name=f"{CONVERSATION}/turns/1", reply=Content(parts=[Part(text=reply)]), **more)

    async def deliver(
        self, turn: Turn, *, number: str = "1", attempt: int = 1, progress: Progress | None = None, wrote: float = 0
    ) -> Outcome:
        address = Address(door="kf", user=LIN, open_kfid=DESK, create_time=int(wrote or self.clock.time()))
        delivery = Delivery(
            turn=f"{CONVERSATION}/turns/{number}",
            address=msgspec.json.encode(address),
            attempt=attempt,
            progress=msgspec.json.encode(progress) if progress else b"",
            ended_turn=turn,
        )
        return await self.courier.deliver(delivery, self._record)

    async def push(self, recipient: str, turn: Turn) -> Outcome:
        name = f"conversations/{recipient.rpartition('/')[2] or 'p'}/turns/1"
        delivery = Delivery(turn=name, recipient=recipient, pushed=True, attempt=1, ended_turn=turn)
        return await self.courier.deliver(delivery, self._record)

    async def _record(self, progress: bytes) -> None:
        self.records.append(read_progress(progress))

    def said(self) -> list[str]:
        return [bubble.text for bubble in self.sim.replies(LIN, "kf")]


@asynccontextmanager
async def bench(*, hand_off: bool = True, max_waiting: int = 8, rules: Rules | None = None) -> AsyncIterator[Bench]:
    clock = Time()
    settings = Settings(listen=ListenSettings(address="127.0.0.1:0"), rules=rules or Rules())
    async with (
        Simulator(settings, clock=clock) as sim,
        FakeService(lambda _: "nothing") as fake,
        ConversationClient(fake.target) as client,
        aiohttp.ClientSession() as session,
    ):
        metrics = Metrics(CollectorRegistry())
        http = WeComApi(
            session,
            base=sim.rest_base,
            corp_id=sim.settings.corp_id,
            secret=sim.settings.kf.secret,
            metrics=metrics,
            pause=lambda: Backoff(0.001, 0.001),
        )

        api = KfApi(http)

        def courier() -> KfCourier:
            return KfCourier(
                api,
                http,
                KfService(client, "desk", assistant="default", assistants={}, can_hand_off=hand_off),
                ledger,
                metrics,
                account="desk",
                handing_over=HandingOver() if hand_off else None,
                caught_up=_nothing_is_new,
                longest_pause=100.0,
                max_waiting=max_waiting,
            )

        ledger = Ledger(clock.time)
        sim.customer_writes(LIN, "在吗")
        b = Bench(sim, clock, fake, api, courier(), ledger)

        def forget() -> None:
            nonlocal ledger
            b.ledger = ledger = Ledger(clock.time)
            b.courier = courier()

        b.forget = forget
        yield b
        await http.aclose()


async def _nothing_is_new(_open_kfid: str) -> None:
    """All events were handled."""


LONG = "\n\n".join(f"第{number}段" + "字" * 600 for number in range(3))


async def test_parts_go_in_order_and_are_recorded_between() -> None:
    async with bench() as b:
        assert await b.deliver(b.turn(LONG)) == Delivered()
        assert len(b.said()) == 3
        assert [(record.room, record.sent) for record in b.records] == [(5, 0), (5, 1), (5, 2)]


async def test_the_next_attempt_goes_on_where_the_last_one_was_recorded() -> None:
    for recorded in range(3):
        async with bench() as b:
            await b.deliver(b.turn(LONG))
            whole = b.said()
            # It died behind the third message, with this much on record: the rest is refused for its ids.
            assert await b.deliver(b.turn(LONG), attempt=2, progress=Progress(room=5, sent=recorded)) == Delivered()
            assert b.said() == whole


async def test_an_answer_that_was_cut_for_little_room_is_cut_the_same_way_again() -> None:
    async with bench() as b:
        b.ledger.wrote(Receiver(DESK, LIN), int(b.clock.time()))
        for number in range(3):
            b.ledger.sent(Receiver(DESK, LIN), "other", f"{number}")
        assert await b.deliver(b.turn(LONG)) == Delivered()
        assert b.records[0].room == 2
        text, file = b.sim.replies(LIN, "kf")
        assert text.text.endswith("完整内容请看随后的文件）")
        assert file.content is not None


async def test_room_is_left_for_answers_that_are_owed() -> None:
    async with bench() as b:
        to = Receiver(DESK, LIN)
        b.ledger.wrote(to, int(b.clock.time()))
        for number in ("2", "3", "4", "5"):
            b.ledger.owes(to, f"{CONVERSATION}/turns/{number}")
        assert await b.deliver(b.turn(LONG)) == Delivered()
        assert len(b.said()) == 1
        for number in ("2", "3", "4", "5"):
            assert await b.deliver(b.turn(number), number=number) == Delivered()
        assert len(b.said()) == 5


async def test_wecom_knows_better_how_many_were_sent() -> None:
    async with bench() as b:
        for number in range(5):
            b.sim.kf.session(DESK, LIN).sent = number + 1
        waiting = asyncio.create_task(b.deliver(b.turn("第六条")))
        await b.sim.wait_for(lambda: any(entry.code == 95001 for entry in b.sim.journal.entries()))
        b.sim.customer_writes(LIN, "继续")
        b.ledger.wrote(Receiver(DESK, LIN), int(b.clock.time()))
        assert await asyncio.wait_for(waiting, 5) == Delivered()
        assert b.said() == ["第六条"]


async def test_answers_beyond_the_bound_of_waiting_wait_at_the_service() -> None:
    async with bench(max_waiting=0) as b:
        b.sim.kf.session(DESK, LIN).sent = 5
        outcome = await b.deliver(b.turn())
        assert isinstance(outcome, Waiting)
        again = await b.deliver(b.turn(), attempt=2, progress=read_progress(outcome.progress))
        assert isinstance(again, Waiting)
        assert again.after == outcome.after
        b.sim.customer_writes(LIN, "继续")
        b.ledger.wrote(Receiver(DESK, LIN), int(b.clock.time()))
        assert await b.deliver(b.turn(), attempt=3, progress=read_progress(again.progress)) == Delivered()
        assert b.said() == ["好"]


async def test_nothing_waits_here_when_the_program_ends() -> None:
    async with bench() as b:
        b.sim.kf.session(DESK, LIN).sent = 5
        waiting = asyncio.create_task(b.deliver(b.turn()))
        await b.sim.wait_for(lambda: any(entry.code == 95001 for entry in b.sim.journal.entries()))
        b.courier.close()
        assert isinstance(await asyncio.wait_for(waiting, 5), Waiting)
        assert isinstance(await asyncio.wait_for(b.deliver(b.turn(), number="2"), 5), Waiting)


async def test_whoever_gives_up_waiting_does_not_take_others_along() -> None:
    ledger, to = Ledger(), Receiver(DESK, LIN)
    patient = asyncio.create_task(ledger.until_written(to, 5))
    assert not await ledger.until_written(to, 0.001)
    ledger.wrote(to, 1)
    assert await asyncio.wait_for(patient, 1)


async def test_48_hours_are_kept_without_asking() -> None:
    async with bench() as b:
        wrote = b.clock.time()
        b.clock.ahead = 48 * 3600 + 1
        assert await b.deliver(b.turn(), wrote=wrote) == Undeliverable("the customer has not written within 48 hours")
        assert not any(entry.code for entry in b.sim.journal.entries())


async def test_an_answer_waits_no_longer_than_the_window() -> None:
    async with bench() as b:
        wrote = b.clock.time()
        b.ledger.wrote(Receiver(DESK, LIN), int(wrote))
        b.ledger.exhausted(Receiver(DESK, LIN), b.ledger.mark(Receiver(DESK, LIN)))
        b.clock.ahead = 48 * 3600 - 1.2
        outcome = await asyncio.wait_for(b.deliver(b.turn(), wrote=wrote), 5)
        assert outcome == Undeliverable("the customer has not written within 48 hours")


async def test_a_person_who_took_over_gets_the_customer_to_himself() -> None:
    async with bench() as b:
        b.sim.servicer_takes(PERSON, LIN)
        assert await b.deliver(b.turn()) == Undeliverable("a person of the company has the customer")
        (request,) = b.fake.requests("HandOffConversation", HandOffConversationRequest)
        assert request.name == CONVERSATION


async def test_a_session_that_is_over_waits_for_the_next_one() -> None:
    async with bench() as b:
        b.sim.servicer_takes(PERSON, LIN)
        b.sim.servicer_ends(PERSON, LIN)
        waiting = asyncio.create_task(b.deliver(b.turn()))
        await b.sim.wait_for(lambda: any(entry.code == 95018 for entry in b.sim.journal.entries()))
        b.sim.customer_writes(LIN, "还有")
        b.ledger.wrote(Receiver(DESK, LIN), int(b.clock.time()))
        assert await asyncio.wait_for(waiting, 5) == Delivered()


async def test_a_customer_is_given_away_once_whatever_dies() -> None:
    async with bench() as b:
        turn = b.turn("转接中", finish_reason=Turn.HANDED_OFF)
        assert await b.deliver(turn) == Delivered()
        assert b.sim.kf.session(DESK, LIN).state == 2
        # With and without the record of the last message.
        for progress in (None, b.records[-1]):
            assert await b.deliver(turn, attempt=2, progress=progress) == Delivered()
        assert b.said() == ["转接中"]
        assert b.fake.requests("HandOffConversation", HandOffConversationRequest) == []


async def test_a_customer_who_was_served_meanwhile_is_not_given_away_again() -> None:
    async with bench() as b:
        turn = b.turn("转接中", finish_reason=Turn.HANDED_OFF)
        assert await b.deliver(turn) == Delivered()
        b.sim.servicer_takes(PERSON, LIN)
        b.sim.servicer_ends(PERSON, LIN)
        assert await b.deliver(turn, attempt=2, progress=b.records[-1]) == Delivered()
        b.sim.customer_writes(LIN, "还有")
        assert await b.deliver(turn, attempt=3, progress=b.records[-1]) == Delivered()
        assert b.sim.kf.session(DESK, LIN).state == 0


async def test_what_this_instance_saw_arrive_is_not_sent_again() -> None:
    async with bench() as b:
        answers = [b.turn(f"第{number}条") for number in range(5)]
        for number, turn in enumerate(answers):
            assert await b.deliver(turn, number=str(number)) == Delivered()
        asked = b.sim.counters["suppressed"], b.sim.counters["refused"]
        # The report of the fifth was lost, and with it there is no room: the customer has it all the same.
        again = b.deliver(answers[4], number="4", attempt=2, progress=Progress(room=1))
        assert await asyncio.wait_for(again, 5) == Delivered()
        assert (b.sim.counters["suppressed"], b.sim.counters["refused"]) == asked
        assert len(b.said()) == 5


@pytest.mark.parametrize("repeats_first", [False, True])
async def test_a_fifth_message_whose_report_died_with_the_program(repeats_first: bool) -> None:
    async with bench(rules=Rules(kf_repeats_before_budget=repeats_first)) as b:
        b.sim.kf.session(DESK, LIN).sent = 4
        assert await b.deliver(b.turn("第五条")) == Delivered()
        b.forget()
        again = asyncio.create_task(b.deliver(b.turn("第五条"), attempt=2, progress=Progress(room=1)))
        if not repeats_first:
            # The budget hides that it had arrived, until the customer writes on.
            await b.sim.wait_for(lambda: any(entry.code == 95001 for entry in b.sim.journal.entries()))
            b.sim.customer_writes(LIN, "继续")
            b.ledger.wrote(Receiver(DESK, LIN), int(b.clock.time()))
        assert await asyncio.wait_for(again, 5) == Delivered()
        assert b.said() == ["第五条"]


async def test_only_what_was_put_off_in_doubt_is_taken_for_a_repetition() -> None:
    async with bench(rules=Rules(kf_text_bytes=2)) as b:
        b.sim.faults.set("rest_busy")
        first = await b.deliver(b.turn("一"))
        assert isinstance(first, Retry)
        b.sim.faults.clear()
        # What WeCom said no to did not arrive, so the refusal of the next attempt is about the text.
        refused = Undeliverable("WeCom refused kf/send_msg with code 40058")
        assert await b.deliver(b.turn("一"), attempt=2, progress=read_progress(first.progress)) == refused
        b.sim.faults.set("rest_5xx")
        doubtful = await b.deliver(b.turn("一"))
        assert isinstance(doubtful, Retry)
        b.sim.faults.set("rest_busy")
        b.sim.faults.clear("rest_5xx")
        again = await b.deliver(b.turn("一"), attempt=2, progress=read_progress(doubtful.progress))
        assert isinstance(again, Retry)
        b.sim.faults.clear()
        # The doubt of the first attempt outlives the second.
        assert await b.deliver(b.turn("一"), attempt=3, progress=read_progress(again.progress)) == Delivered()


@pytest.mark.parametrize(("code", "repeated"), [(40058, True), (85002, False), (40007, False), (45002, False)])
def test_refusals_that_tell_of_a_repetition(code: int, repeated: bool) -> None:
    assert came_through_before(refusal(code, "kf/send_msg")) is repeated


async def test_a_message_that_met_silence_is_asked_again_whatever_breaks_off() -> None:
    silent = Turn(finish_reason=Turn.HANDED_OFF, input=Content(parts=[Part(text="还在吗")]))
    async with bench() as b:
        async with ConversationClient(b.fake.target) as client:
            await client.hand_off(CONVERSATION)
        b.fake.fail_next(ResourceExhausted("busy"), method="SubmitTurn")
        with pytest.raises(ResourceExhausted):
            await b.deliver(silent)
        assert await b.deliver(silent, attempt=2) == Delivered()
        assert len(b.fake.turns()) == 1
        # With the report lost, once more.
        assert await b.deliver(silent, attempt=3) == Delivered()
        assert len(b.fake.turns()) == 1


async def test_what_was_written_to_a_person_is_not_asked_again() -> None:
    async with bench() as b:
        turns = [f"{CONVERSATION}/turns/{number}" for number in (1, 2)]
        for _ in range(2):  # whatever is read twice changes nothing
            b.ledger.read(turns[0])
            b.ledger.ended(CONVERSATION, "the end of the session")
            b.ledger.read(turns[1])
        for number, text in ((1, "给张伟"), (2, "给助手")):
            silent = Turn(finish_reason=Turn.HANDED_OFF, input=Content(parts=[Part(text=text)]))
            assert await b.deliver(silent, number=f"{number}") == Delivered()
        # Another instance read an old event and made the assistant silent, just when the second one came.
        assert [text_of(turn.input) for turn in b.fake.turns()] == ["给助手"]


async def test_nothing_is_said_while_a_person_serves() -> None:
    async with bench() as b:
        b.sim.servicer_takes(PERSON, LIN)
        assert await b.deliver(Turn(finish_reason=Turn.HANDED_OFF)) == Delivered()
        assert b.said() == []
        assert b.fake.requests("SubmitTurn", SubmitTurnRequest) == []


@pytest.mark.parametrize("turn", [Turn(finish_reason=Turn.MERGED), Turn(state=Turn.CANCELLED)])
async def test_what_is_not_to_be_shown_is_not_sent(turn: Turn) -> None:
    async with bench() as b:
        assert await b.deliver(turn) == Delivered()
        assert b.said() == []


async def test_a_limit_that_one_message_met_is_kept_by_all() -> None:
    async with bench() as b:
        assert await b.deliver(b.turn("一")) == Delivered()
        b.sim.faults.once("rest_limited")
        for number in range(3):
            with pytest.raises(SlowDown):
                await b.api.send(text_message(Receiver(DESK, LIN), f"{number}", "二"))
        assert [entry.code for entry in b.sim.journal.entries() if entry.code] == [45009]
        assert b.said() == ["一"]


async def test_what_does_not_pass_by_itself_is_put_off() -> None:
    async with bench() as b:
        b.sim.faults.set("rest_5xx")
        outcome = await b.deliver(b.turn())
        assert isinstance(outcome, Retry)
        b.sim.faults.clear()
        assert await b.deliver(b.turn(), attempt=2, progress=read_progress(outcome.progress)) == Delivered()
        assert b.said() == ["好"]


async def test_menus_and_what_they_stand_for() -> None:
    async with bench() as b:
        choices = [Choice(label="套餐一", text="我要订套餐一"), Choice(label="套餐二", text="我要订套餐二")]
        assert await b.deliver(b.turn("请选套餐", choices=choices)) == Delivered()
        b.sim.customer_clicks_menu(LIN, "套餐二")
        item = b.sim.kf.items[DESK].page("", 1000, b.clock.time()).items[-1]
        assert item["text"]["menu_id"] == "say:我要订套餐二"


async def test_messages_of_the_companys_own_accord() -> None:
    async with bench() as b:
        assert await b.push(f"customer:{DESK}/{LIN}", b.turn("您的订单已发货")) == Delivered()
        assert b.said() == ["您的订单已发货"]
        for recipient in ("", LIN, f"user:{DESK}/{LIN}", f"customer:{LIN}", "customer:/"):
            assert isinstance(await b.push(recipient, b.turn()), Undeliverable)
        assert isinstance(await b.push(f"customer:{DESK}/wmNobody", b.turn()), Undeliverable)
        native = Content(parts=[Part(media=Media(mime_type=MESSAGE_TYPE, inline_data=b'{"msgtype":"news"}'))])
        assert isinstance(await b.push(f"customer:{DESK}/{LIN}", Turn(reply=native)), Undeliverable)
        b.sim.customer_writes(ZHOU, "在吗")
        b.sim.servicer_takes(PERSON, ZHOU)
        assert isinstance(await b.push(f"customer:{DESK}/{ZHOU}", b.turn()), Undeliverable)
        assert b.fake.requests("HandOffConversation", HandOffConversationRequest) == []


async def test_files_of_a_reply_are_put_up() -> None:
    async with bench() as b:
        parts = [
            Part(text="请看："),
            Part(media=Media(mime_type="image/png", inline_data=b"\x89PNG\r\n\x1a\n....", display_name="图.png")),
            Part(media=Media(mime_type="application/pdf", inline_data=b"%PDF-1.7", display_name="说明.pdf")),
        ]
        assert await b.deliver(Turn(reply=Content(parts=parts))) == Delivered()
        kinds = [bubble.content and bubble.content["kind"] for bubble in b.sim.replies(LIN, "kf")]
        assert kinds == [None, "image", "file"]


async def test_an_equal_file_is_put_up_once() -> None:
    async with bench() as b:
        picture = Media(mime_type="image/png", inline_data=b"\x89PNG\r\n\x1a\n....", display_name="图.png")
        for number in range(3):
            turn = Turn(reply=Content(parts=[Part(media=picture)]))
            assert await b.deliver(turn, number=f"{number}") == Delivered()
        bubbles = b.sim.replies(LIN, "kf")
        assert len(bubbles) == 3
        assert len({bubble.content["url"] for bubble in bubbles if bubble.content}) == 1
        # Another name is another file to those who get it.
        other = Media(mime_type="image/png", inline_data=picture.inline_data, display_name="另.png")
        assert await b.deliver(Turn(reply=Content(parts=[Part(media=other)])), number="3") == Delivered()
        assert len({bubble.content["url"] for bubble in b.sim.replies(LIN, "kf") if bubble.content}) == 2


# --- pure ---------------------------------------------------------------------------------


@given(
    st.text(max_size=12000),
    st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), max_size=12),
    st.lists(st.binary(min_size=0, max_size=20), max_size=6),
    st.integers(1, 5),
)
def test_any_reply_fits_into_any_room(
    reply: str, choices: list[tuple[str, str]], files: list[bytes], room: int
) -> None:
    turn = Turn(
        reply=Content(
            parts=[
                Part(text=reply.encode(errors="replace").decode()),
                *(Part(media=Media(mime_type="application/pdf", inline_data=data)) for data in files),
            ]
        ),
        choices=[Choice(label=label.encode(errors="replace").decode(), text=text.encode(errors="replace").decode())
                 for label, text in choices],
    )  # fmt: skip
    said = messages(turn, room)
    assert 1 <= len(said) <= room
    assert said == messages(turn, room)
    for message in said:
        match message:
            case Text(content=content):
                assert 1 <= len(content.encode()) <= 2048
            case Menu(head=head, items=items):
                assert 1 <= len(head.encode()) <= 1024
                assert len(items) <= 10
                assert all(has_visible(item.label) for item in items)
                assert all(len(item.id.encode()) <= 128 and len(item.label.encode()) <= 128 for item in items)
            case File(data=data):
                assert len(data) > 5


def test_files_for_which_there_is_no_room_are_told() -> None:
    files = [Part(media=Media(mime_type="application/pdf", inline_data=b"%PDF-1.7", display_name=f"{number}.pdf"))
             for number in range(6)]  # fmt: skip
    text, *sent = messages(Turn(reply=Content(parts=files)), 5)
    assert isinstance(text, Text)
    assert text.content == "（4.pdf没能发送成功。）\n（5.pdf没能发送成功。）"
    assert [file.name for file in sent if isinstance(file, File)] == ["0.pdf", "1.pdf", "2.pdf", "3.pdf"]
    assert all(isinstance(message, File) for message in messages(Turn(reply=Content(parts=files)), 6))


def test_choices_that_no_menu_takes_are_listed() -> None:
    turn = Turn(choices=[Choice(label=f"选项{number}", text=f"{number}") for number in range(11)])
    (message,) = messages(turn, 5)
    assert isinstance(message, Text)
    assert message.content.startswith("请选择：\n1. 选项0\n")
    assert not MenuItem("长", "字" * 42).fits


@given(st.text(), st.text())
def test_ids_of_messages_are_what_wecom_takes(turn: str, part: str) -> None:
    turn, part = (text.encode(errors="replace").decode() for text in (turn, part))
    assert len(message_id(turn, part)) == 32
    assert message_id(turn, part).isalnum()
    assert message_id(turn, part) != message_id(turn, part + "x")


@pytest.mark.parametrize("raw", [b"\xff", b'{"a": "\xff"}', b"[]", b'{"a":' + b"[" * 100_000])
def test_a_card_that_is_none_is_no_defect(raw: bytes) -> None:
    card = Part(media=Media(mime_type=CARD_TYPE, inline_data=raw))
    assert messages(Turn(reply=Content(parts=[Part(text="看这里"), card])), 5)
