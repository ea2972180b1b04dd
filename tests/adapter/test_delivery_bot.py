"""How a bot's reply is shown when WeCom refuses frames: the showing alone, on a line that is scripted."""

from collections import deque
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from adapter.bot_bubble import stream_id
from adapter.bot_courier import BotCourier
from adapter.bot_errors import AckMissing, BotError, ConnectionLost, FrameRefused
from adapter.bot_line import BotLine
from adapter.bot_showing import BotTiming, Progress, read_progress
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Retry, Undeliverable
from adapter.render import MERGED, bot_parts
from adapter.translate import Address
from adapter.unsaid import HANDED_OFF
from adapter.wire import parse_frame
from weconverse import Content, ConversationClient, Delivery, Part, Turn

LONG = "\n\n".join(f"第{number}段。" + "字" * 3000 for number in range(6))


class ScriptedLine:
    """Takes frames, or refuses them as scripted; keeps what was taken."""

    def __init__(self, *script: int | BotError | None) -> None:
        self.script = deque(script)
        self.tried: list[tuple[str, str]] = []
        self.taken: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []

    async def request(self, req_id: str, frame: str, cmd: str, *, wait_seconds: float) -> None:
        body = parse_frame(frame).body
        content = (body.get("stream") or body.get("markdown") or {})["content"]
        self.tried.append((cmd, content))
        step = self.script.popleft() if self.script else None
        if isinstance(step, int):
            raise FrameRefused(step, cmd)
        if step is not None:
            raise step
        self.taken.append((cmd, content))
        self.bodies.append(body)


class Records:
    def __init__(self) -> None:
        self.all: list[Progress] = []

    async def __call__(self, progress: bytes) -> None:
        self.all.append(read_progress(progress))


async def show(
    line: ScriptedLine,
    reply: str,
    *,
    progress: bytes = b"",
    chat: str = "",
    attempt: int = 1,
    finish_reason: Turn.FinishReason.ValueType = Turn.STOP,
) -> tuple[Outcome, list[Progress]]:
    courier = BotCourier(
        cast("ConversationClient", None),  # an ended turn needs no service
        cast("BotLine", line),
        Metrics(CollectorRegistry()),
        timing=BotTiming(),
    )
    address = Address(door="bot", user="lina", chat=chat, chat_type="group" if chat else "single", req_id="r1")
    delivery = Delivery(
        turn="conversations/c/turns/1",
        address=msgspec.json.encode(address),
        attempt=attempt,
        progress=progress,
        ended_turn=Turn(reply=Content(parts=[Part(text=reply)] if reply else []), finish_reason=finish_reason),
    )
    records = Records()
    return await courier.deliver(delivery, records), records.all


RESPOND, SEND = "aibot_respond_msg", "aibot_send_msg"


async def test_an_ended_turn_is_one_finished_frame_of_the_turns_own_stream() -> None:
    line = ScriptedLine()
    assert (await show(line, "答案"))[0] == Delivered()
    assert line.taken == [(RESPOND, "答案")]
    assert line.bodies[0]["stream"] == {"id": stream_id("conversations/c/turns/1"), "finish": True, "content": "答案"}


@pytest.mark.parametrize("code", [846605, 846608, 600039])
async def test_a_closed_bubble_becomes_a_message_of_our_own_accord(code: int) -> None:
    line = ScriptedLine(code)
    outcome, records = await show(line, "答案", chat="g1")
    assert outcome == Delivered()
    assert line.taken == [(SEND, "答案")]
    assert (line.bodies[0]["chatid"], line.bodies[0]["chat_type"]) == ("g1", 2)
    assert records[0].proactive


async def test_parts_beyond_the_bubble_are_messages_in_order_and_recorded() -> None:
    line = ScriptedLine()
    outcome, records = await show(line, LONG)
    parts = bot_parts(LONG)
    assert outcome == Delivered()
    assert line.taken == [(RESPOND, parts[0]), *((SEND, part) for part in parts[1:])]
    assert [record.sent for record in records] == list(range(1, len(parts)))


async def test_the_next_attempt_goes_on_behind_what_was_recorded() -> None:
    line = ScriptedLine()
    progress = msgspec.json.encode(Progress(sent=1))
    assert (await show(line, LONG, progress=progress, attempt=2))[0] == Delivered()
    assert line.taken == [(SEND, part) for part in bot_parts(LONG)[1:]]


async def test_what_wecom_calls_too_long_is_sent_in_halves_without_loss_or_repetition() -> None:
    for refusals in ((45002,), (45002, 45002), (None, 45002), (None, None, 45002)):
        line = ScriptedLine(*refusals)
        assert (await show(line, LONG))[0] == Delivered()
        shown = "".join(content for _, content in line.taken)
        assert [shown.count(f"第{number}段。") for number in range(6)] == [1] * 6
        assert shown.count("字") == 6 * 3000


async def test_a_limit_is_waited_for_and_nothing_is_lost() -> None:
    line = ScriptedLine(45033)
    assert (await show(line, "答案"))[0] == Delivered()
    assert line.taken == [(RESPOND, "答案")]


async def test_the_end_of_a_bubble_is_repeated_until_it_is_acknowledged() -> None:
    line = ScriptedLine(AckMissing("x"), ConnectionLost("y"))
    assert (await show(line, "答案"))[0] == Delivered()
    assert line.tried == [(RESPOND, "答案")] * 3


async def test_without_an_acknowledgement_the_delivery_is_put_off_with_what_was_sent() -> None:
    line = ScriptedLine(None, ConnectionLost("x"))
    outcome, _ = await show(line, LONG)
    assert isinstance(outcome, Retry)
    assert read_progress(outcome.progress) == Progress(sent=1, tries=1)


async def test_nobody_there_is_undeliverable() -> None:
    assert isinstance((await show(ScriptedLine(846608, 93006), "答案"))[0], Undeliverable)


async def test_an_unknown_refusal_is_tried_later() -> None:
    outcome, _ = await show(ScriptedLine(12345), "答案")
    assert isinstance(outcome, Retry)
    assert outcome.after == 5.0


@pytest.mark.parametrize("reason", [Turn.MERGED, Turn.HANDED_OFF])
async def test_a_message_that_the_next_answer_covers_or_a_person_answers_shows_nothing(
    reason: Turn.FinishReason.ValueType,
) -> None:
    line = ScriptedLine()
    assert (await show(line, "", finish_reason=reason))[0] == Delivered()
    assert not line.tried


@pytest.mark.parametrize(("reason", "note"), [(Turn.MERGED, MERGED), (Turn.HANDED_OFF, HANDED_OFF)])
async def test_a_bubble_that_may_be_open_is_ended_with_what_to_wait_for(
    reason: Turn.FinishReason.ValueType, note: str
) -> None:
    line = ScriptedLine(AckMissing("x"))
    assert (await show(line, "", finish_reason=reason, attempt=2))[0] == Delivered()
    assert line.tried == [(RESPOND, note)] * 2
    assert line.bodies[0]["stream"] == {"id": stream_id("conversations/c/turns/1"), "finish": True, "content": note}


@pytest.mark.parametrize("code", [846605, 846608, 600039, 12345])
async def test_a_bubble_that_cannot_be_ended_needs_no_message(code: int) -> None:
    line = ScriptedLine(code)
    assert (await show(line, "", finish_reason=Turn.MERGED, attempt=2))[0] == Delivered()
    assert not line.taken
    proactive = msgspec.json.encode(Progress(proactive=True))
    assert (await show(line, "", finish_reason=Turn.MERGED, attempt=2, progress=proactive))[0] == Delivered()
    assert len(line.tried) == 1


async def test_an_end_that_was_not_acknowledged_is_tried_later() -> None:
    line = ScriptedLine(*[ConnectionLost("x")] * 3)
    assert isinstance((await show(line, "", finish_reason=Turn.MERGED, attempt=2))[0], Retry)
