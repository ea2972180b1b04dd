"""How a bot's reply is shown when WeCom refuses frames: the showing alone, on a line that is scripted."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from adapter.bot.bubble import stream_id
from adapter.bot.courier import BotCourier
from adapter.bot.errors import AckMissing, BotError, ConnectionLost, FrameRefused
from adapter.bot.line import BotLine
from adapter.bot.showing import BotTiming, Progress, Upload, read_progress
from adapter.cards import CARD_TYPE, MESSAGE_TYPE, task_id
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Retry, Undeliverable, Waiting
from adapter.recently_sent import MemberPace
from adapter.text.render import MERGED, bot_parts
from adapter.translate import Address
from adapter.unsaid import HANDED_OFF
from adapter.wire import parse_frame
from weconverse import Content, ConversationClient, Delivery, Part, Turn
from weconverse.v1.conversation_pb2 import Choice, Media

LONG = "\n\n".join(f"第{number}段。" + "字" * 3000 for number in range(6))


class ScriptedLine:
    """Takes frames, or refuses them as scripted; keeps what was taken."""

    def __init__(self, *script: int | BotError | None) -> None:
        self.script = deque(script)
        self.tried: list[tuple[str, str]] = []
        self.taken: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []

    async def request(
        self, req_id: str, frame: str, cmd: str, *, wait_seconds: float, taken: Callable[[], None] | None = None
    ) -> None:
        body = parse_frame(frame).body
        inner = body.get("stream") or body[body["msgtype"]]
        content = inner.get("content") or f"[{body['msgtype']}]"
        self.tried.append((cmd, content))
        step = self.script.popleft() if self.script else None
        if isinstance(step, int):
            raise FrameRefused(step, cmd)
        if step is not None:
            raise step
        self.taken.append((cmd, content))
        self.bodies.append(body)
        if taken is not None:
            taken()


class Records:
    def __init__(self) -> None:
        self.all: list[Progress] = []

    async def __call__(self, progress: bytes) -> None:
        self.all.append(read_progress(progress))


def courier_on(line: ScriptedLine, pace: MemberPace | None = None, upload: Upload | None = None) -> BotCourier:
    return BotCourier(
        cast("ConversationClient", None),  # an ended turn needs no service
        cast("BotLine", line),
        Metrics(CollectorRegistry()),
        timing=BotTiming(),
        pace=pace or MemberPace(0, 0),
        upload=upload,
    )


def to_deliver(reply: str) -> Delivery:
    address = Address(door="bot", user="lina", chat_type="single", req_id="r1")
    turn = Turn(name=TURN, reply=Content(parts=[Part(text=reply)]), finish_reason=Turn.STOP)
    return Delivery(turn=TURN, address=msgspec.json.encode(address), attempt=1, ended_turn=turn)


async def show(
    line: ScriptedLine,
    reply: str,
    *,
    progress: bytes = b"",
    chat: str = "",
    attempt: int = 1,
    finish_reason: Turn.FinishReason.ValueType = Turn.STOP,
    parts: list[Part] | None = None,
    choices: list[Choice] | None = None,
    req_id: str = "r1",
    recipient: str | None = None,
    pace: MemberPace | None = None,
    upload: Upload | None = None,
) -> tuple[Outcome, list[Progress]]:
    courier = courier_on(line, pace, upload)
    address = Address(door="bot", user="lina", chat=chat, chat_type="group" if chat else "single", req_id=req_id)
    delivery = Delivery(
        turn=TURN,
        address=b"" if recipient is not None else msgspec.json.encode(address),
        attempt=attempt,
        progress=progress,
        ended_turn=Turn(
            name=TURN,
            reply=Content(parts=parts if parts is not None else [Part(text=reply)] if reply else []),
            finish_reason=finish_reason,
            choices=choices or [],
        ),
        pushed=recipient is not None,
        recipient=recipient or "",
    )
    records = Records()
    return await courier.deliver(delivery, records), records.all


TURN = "conversations/c/turns/1"
RESPOND, SEND = "aibot_respond_msg", "aibot_send_msg"


async def test_an_ended_turn_is_one_finished_frame_of_the_turns_own_stream() -> None:
    line = ScriptedLine()
    assert (await show(line, "答案"))[0] == Delivered()
    assert line.taken == [(RESPOND, "答案")]
    assert line.bodies[0]["stream"] == {
        "id": stream_id(TURN),
        "finish": True,
        "content": "答案",
        "feedback": {"id": TURN},
    }


async def test_only_the_first_frame_of_the_first_attempt_asks_for_a_rating() -> None:
    line = ScriptedLine(AckMissing("x"))
    await show(line, "答案")
    assert [body["stream"].get("feedback") for body in line.bodies] == [None], "the one that was lost had it"
    again = ScriptedLine()
    await show(again, "答案", attempt=2)
    assert "feedback" not in again.bodies[0]["stream"]


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


@pytest.mark.parametrize("lost_at", [1, 2], ids=["the bubble", "a message"])
async def test_what_was_shown_but_not_recorded_is_not_shown_again_by_the_same_process(lost_at: int) -> None:
    """The lease is lost with the record on its way, as when the service is restarted."""
    line = ScriptedLine()
    courier = courier_on(line)
    delivery = to_deliver(LONG)
    records = Records()

    async def lost(progress: bytes) -> None:
        if len(records.all) + 1 == lost_at:
            raise asyncio.CancelledError
        await records(progress)

    with pytest.raises(asyncio.CancelledError):
        await courier.deliver(delivery, lost)
    delivery.attempt = 2
    delivery.progress = msgspec.json.encode(records.all[-1]) if records.all else b""
    assert await courier.deliver(delivery, Records()) == Delivered()
    assert [content for _, content in line.taken] == bot_parts(LONG)
    delivery.attempt = 3  # also if the report of the whole was what got lost
    assert await courier.deliver(delivery, Records()) == Delivered()
    assert len(line.taken) == len(bot_parts(LONG))
    delivery.attempt = 1  # the conversation was deleted, and somebody uses the name again
    delivery.progress = b""
    assert await courier.deliver(delivery, Records()) == Delivered()
    assert len(line.taken) == 2 * len(bot_parts(LONG))


async def test_the_rating_is_asked_for_again_where_the_first_frame_was_refused() -> None:
    line = ScriptedLine(45002)
    assert (await show(line, "答案"))[0] == Delivered()
    assert line.bodies[0]["stream"]["feedback"] == {"id": TURN}


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


# --- cards, files, choices ----------------------------------------------------------------

NOTICE: dict[str, Any] = {
    "card_type": "text_notice",
    "main_title": {"title": "审批通过"},
    "card_action": {"type": 1, "url": "https://example.com"},
}
CHOICES = [Choice(label="查余额", text="查询余额"), Choice(label="人工", text="转人工")]


def card(value: dict[str, Any] | None = None) -> Part:
    return Part(media=Media(mime_type=CARD_TYPE, inline_data=msgspec.json.encode(value or NOTICE)))


async def test_choices_are_a_card_behind_the_ended_bubble() -> None:
    line = ScriptedLine()
    outcome, records = await show(line, "请选择业务", choices=CHOICES)
    assert outcome == Delivered()
    assert [(body["msgtype"]) for body in line.bodies] == ["stream", "template_card"]
    assert [cmd for cmd, _ in line.taken] == [RESPOND, RESPOND], "both under the req_id of the question"
    sent = line.bodies[1]["template_card"]
    assert (sent["task_id"], [button["key"] for button in sent["button_list"]]) == (
        task_id(TURN),
        ["查询余额", "转人工"],
    )
    assert records[0].sent == 1, "the next attempt sends the card alone"
    resumed = ScriptedLine()
    await show(resumed, "请选择业务", choices=CHOICES, progress=msgspec.json.encode(records[0]), attempt=2)
    assert [body["msgtype"] for body in resumed.bodies] == ["template_card"]


@pytest.mark.parametrize("code", [846605, 42045, 600039, 12345])
async def test_a_refused_card_is_said_in_words(code: int) -> None:
    line = ScriptedLine(None, code)
    outcome, records = await show(line, "请选择业务", choices=CHOICES)
    assert outcome == Delivered()
    assert [content for _, content in line.taken] == [
        "请选择业务",
        "您可以直接回复：\n• 查询余额（查余额）\n• 转人工（人工）",
    ]
    assert records[-1].refused == (0,), "and the next attempt knows"


async def test_what_answers_no_message_goes_of_our_own_accord() -> None:
    line = ScriptedLine()
    assert (await show(line, "请选择业务", choices=CHOICES, req_id=""))[0] == Delivered()
    assert [(cmd, body["msgtype"]) for (cmd, _), body in zip(line.taken, line.bodies, strict=True)] == [
        (SEND, "markdown"),
        (SEND, "template_card"),
    ]
    group = ScriptedLine()  # cards of our own accord are for single chats only
    assert (await show(group, "请选择业务", choices=CHOICES, req_id="", chat="g1"))[0] == Delivered()
    assert [content for _, content in group.taken] == [
        "请选择业务\n\n您可以直接回复：\n• 查询余额（查余额）\n• 转人工（人工）"
    ]


async def test_a_reply_of_texts_and_cards_keeps_its_order() -> None:
    line = ScriptedLine()
    parts = [Part(text="第一"), card(), Part(text="第二"), Part(text="第三"), card({"card_type": "?"})]
    assert (await show(line, "", parts=parts))[0] == Delivered()
    assert [content for _, content in line.taken] == ["第一", "[template_card]", "第二\n第三\n[卡片]"]


async def test_a_reply_without_a_text_still_ends_the_bubble() -> None:
    line = ScriptedLine()
    assert (await show(line, "", parts=[card()]))[0] == Delivered()
    assert [body["msgtype"] for body in line.bodies] == ["stream", "template_card"]
    assert line.bodies[0]["stream"]["finish"]


class Uploads:
    def __init__(self, error: BotError | None = None) -> None:
        self.error = error
        self.names: list[str] = []

    async def __call__(self, media: Media) -> tuple[str, dict[str, Any]]:
        self.names.append(media.display_name)
        if self.error is not None:
            raise self.error
        return "file", {"media_id": f"m-{media.display_name}"}


def file(name: str = "表.xlsx", **more: Any) -> Part:
    return Part(media=Media(mime_type="application/octet-stream", display_name=name, **more))


async def test_files_are_uploaded_and_shown_where_they_stand() -> None:
    line, uploads = ScriptedLine(), Uploads()
    parts = [Part(text="见附件"), file(inline_data=b"12345678"), Part(text="完")]
    assert (await show(line, "", parts=parts, upload=uploads))[0] == Delivered()
    assert [(cmd, content) for cmd, content in line.taken] == [
        (RESPOND, "见附件"),
        (RESPOND, "[file]"),
        (SEND, "完"),
    ]
    assert line.bodies[1]["file"] == {"media_id": "m-表.xlsx"}


@pytest.mark.parametrize(
    ("media", "words"),
    [({"inline_data": b"x"}, "（表.xlsx没能发送成功。）"), ({"uri": "https://e.cn/a"}, "[表.xlsx](https://e.cn/a)")],
)
async def test_a_file_that_cannot_be_sent_is_said(media: dict[str, Any], words: str) -> None:
    for upload in (None, Uploads(FrameRefused(40007, "upload"))):
        line = ScriptedLine()
        assert (await show(line, "", parts=[Part(text="见"), file(**media)], upload=upload))[0] == Delivered()
        assert [content for _, content in line.taken] == ["见", words]
    line = ScriptedLine()
    outcome, _ = await show(line, "", parts=[Part(text="见"), file(**media)], upload=Uploads(ConnectionLost("x")))
    assert isinstance(outcome, Retry)


# --- messages of our own accord ----------------------------------------------------------


@pytest.mark.parametrize(("recipient", "chat_type"), [("user:LiNa", 1), ("chat:wrAbC", 2)])
async def test_a_push_goes_to_a_person_or_a_group(recipient: str, chat_type: int) -> None:
    line = ScriptedLine()
    assert (await show(line, LONG, recipient=recipient))[0] == Delivered()
    assert [content for _, content in line.taken] == bot_parts(LONG)
    assert {cmd for cmd, _ in line.taken} == {SEND}
    assert {(body["chatid"], body["chat_type"]) for body in line.bodies} == {(recipient.partition(":")[2], chat_type)}


async def test_a_pushed_card_or_file_needs_no_text() -> None:
    line = ScriptedLine()
    parts = [card(), file(inline_data=b"12345678")]
    assert (await show(line, "", parts=parts, recipient="user:lina", upload=Uploads()))[0] == Delivered()
    assert [body["msgtype"] for body in line.bodies] == ["template_card", "file"]
    group = ScriptedLine()
    assert (await show(group, "", parts=[card()], recipient="chat:g"))[0] == Delivered()
    assert [content for _, content in group.taken] == ["【审批通过】\nhttps://example.com"]


async def test_a_push_to_who_never_wrote_says_what_has_to_happen_first() -> None:
    outcome, _ = await show(ScriptedLine(93006), "早", recipient="user:lina")
    assert isinstance(outcome, Undeliverable)
    assert "93006" in outcome.detail
    assert "has to write first" in outcome.detail


@pytest.mark.parametrize("recipient", ["", "lina", "user:", "mail:lina"])
async def test_a_push_to_nobody_is_undeliverable(recipient: str) -> None:
    outcome, _ = await show(ScriptedLine(), "早", recipient=recipient)
    assert outcome == Undeliverable("recipient: is neither user:USERID nor chat:CHATID")


async def test_a_push_in_the_json_of_other_doors_is_refused_and_not_sent_as_a_file() -> None:
    line = ScriptedLine()
    parts = [Part(text="周报"), Part(media=Media(mime_type=MESSAGE_TYPE, inline_data=b'{"msgtype":"news"}'))]
    outcome, _ = await show(line, "", parts=parts, recipient="user:lina", upload=Uploads())
    assert isinstance(outcome, Undeliverable)
    assert outcome.detail.startswith(f"parts[1]: {MESSAGE_TYPE} goes through applications and robots only")
    assert not line.taken


# --- how often ---------------------------------------------------------------------------


async def test_what_is_beyond_our_own_limit_waits_and_is_not_lost() -> None:
    now = 0.0
    pace = MemberPace(0, 2, clock=lambda: now)
    line = ScriptedLine()
    outcome, _ = await show(line, LONG, pace=pace)
    assert isinstance(outcome, Waiting)
    assert outcome.after == 1800.0, "the longest pause"
    assert len(line.tried) == 2, "nothing was tried that WeCom would refuse"
    now, done = 3600.0, ScriptedLine()
    resumed, _ = await show(done, LONG, pace=pace, progress=outcome.progress, attempt=2)
    while isinstance(resumed, Waiting):
        now += 3600.0
        resumed, _ = await show(done, LONG, pace=pace, progress=resumed.progress, attempt=2)
    assert resumed == Delivered()
    assert [content for _, content in (*line.taken, *done.taken)] == bot_parts(LONG)


def test_room_for_several_messages_is_room_for_the_last_of_them() -> None:
    now = 0.0
    pace = MemberPace(3, 0, clock=lambda: now)
    pace.sent("LiNa")
    now = 10.0
    pace.sent("LiNa")
    assert (pace.wait("lina", 1), pace.wait("lina", 2)) == (0.0, 50.0)
    now = 60.0
    assert pace.wait("lina", 2) == 0.0
    assert pace.wait("lina", 9) == 10.0, "never more than an empty window"
    assert pace.wait("wangfang", 2) == 0.0
