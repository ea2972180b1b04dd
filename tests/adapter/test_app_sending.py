"""One delivery of an application: files, refusals, groups, and what the next attempt knows."""

import json
from collections.abc import Mapping
from typing import Any, cast

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from adapter.application.courier import AppCourier
from adapter.application.sending import Outlet, Upload, read_progress
from adapter.cards import CARD_TYPE
from adapter.metrics import Metrics
from adapter.outcome import Delivered, Outcome, Retry, Undeliverable, Waiting
from adapter.recently_sent import MemberPace, RecentlySent
from adapter.rest.api import Sent, WeComApi
from adapter.rest.errors import ContentRefused, SlowDown, WeComError, WeComUnreachable
from adapter.translate import Address
from weconverse import Content, Delivery, Part, Turn
from weconverse.v1.conversation_pb2 import Choice, Media

CARD = {
    "card_type": "text_notice",
    "main_title": {"title": "报销"},
    "card_action": {"type": 1, "url": "https://example.com"},
}
PICTURE = Part(media=Media(mime_type="image/png", display_name="图.png", inline_data=b"x"))


class Platform:
    """Stands for the HTTP interface: takes what comes, but for the errors that a test lined up."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.errors: list[WeComError | None] = []
        self.answer = Sent("m1", missed=False)

    async def send(self, call: str, body: bytes, *, repeatable: bool) -> Sent:
        request = msgspec.json.decode(body)
        assert repeatable == bool(request.get("enable_duplicate_check"))
        self.requests.append((call, request))
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return self.answer

    @property
    def said(self) -> list[str]:
        """What was asked for, by its text or else its kind."""
        bodies = [(request["msgtype"], request[request["msgtype"]]) for _, request in self.requests]
        return [body.get("content") or body.get("media_id") or f"<{kind}>" for kind, body in bodies]


class Uploads:
    """Puts files up under numbered ids."""

    def __init__(self) -> None:
        self.count = 0
        self.forgotten: list[str] = []
        self.error: WeComError | None = None

    async def __call__(self, media: Media) -> tuple[str, Mapping[str, Any]]:
        if self.error is not None:
            raise self.error
        self.count += 1
        return "image", {"media_id": f"id{self.count}"}

    def forget(self, media_id: str) -> None:
        self.forgotten.append(media_id)


class Records(list[bytes]):
    async def __call__(self, progress: bytes) -> None:
        self.append(progress)


def courier(platform: Platform, upload: Upload | None = None, group_pace: MemberPace | None = None) -> AppCourier:
    outlet = Outlet(
        api=cast("WeComApi", platform),
        metrics=Metrics(CollectorRegistry()),
        agent_id=7,
        interval=600,
        sent=RecentlySent(600),
        pace=MemberPace(0, 0),
        group_pace=group_pace or MemberPace(0, 0),
        markdown=False,
        cards=True,
        upload=upload,
    )
    return AppCourier(outlet, longest_pause=100.0)


def answer(*parts: Part, attempt: int = 1, progress: bytes = b"", **turn: Any) -> Delivery:
    return Delivery(
        turn="conversations/c/turns/1",
        address=msgspec.json.encode(Address(door="app", user="lina")),
        attempt=attempt,
        progress=progress,
        ended_turn=Turn(name="conversations/c/turns/1", reply=Content(parts=parts), **turn),
    )


def push(*parts: Part, to: str, attempt: int = 1, progress: bytes = b"") -> Delivery:
    turn = "conversations/push/turns/1"
    ended = Turn(name=turn, reply=Content(parts=parts))
    return Delivery(turn=turn, recipient=to, pushed=True, attempt=attempt, progress=progress, ended_turn=ended)


def card(value: Mapping[str, Any] = CARD) -> Part:
    return Part(media=Media(mime_type=CARD_TYPE, inline_data=json.dumps(value).encode()))


def refused(code: int) -> ContentRefused:
    return ContentRefused(code, "message/send")


async def test_choices_follow_the_text_as_buttons() -> None:
    platform = Platform()
    delivery = answer(
        Part(text="您想怎么办？"), choices=[Choice(label="退", text="退款"), Choice(label="换", text="换货")]
    )
    assert await courier(platform).deliver(delivery, Records()) == Delivered()
    assert platform.said == ["您想怎么办？", "<template_card>"]
    assert [button["key"] for button in platform.requests[1][1]["template_card"]["button_list"]] == ["退款", "换货"]


async def test_a_refused_card_is_said_in_words_and_stays_so_in_the_next_attempt() -> None:
    platform, records = Platform(), Records()
    platform.errors = [None, refused(42045), SlowDown(45009, "message/send", 100.0)]
    delivery = answer(Part(text="一"), card(), Part(text="二"))
    outcome = await courier(platform).deliver(delivery, records)
    assert isinstance(outcome, Waiting)
    words = "【报销】\nhttps://example.com"
    assert platform.said == ["一", "<template_card>", words]
    assert read_progress(records[-1]).words_from == 0
    again = answer(Part(text="一"), card(), Part(text="二"), attempt=2, progress=outcome.progress)
    assert await courier(platform).deliver(again, records) == Delivered()
    assert platform.said[3:] == [words, "二"]


async def test_equal_texts_of_one_turn_are_both_shown() -> None:
    platform = Platform()
    delivery = answer(Part(text="提醒"), card(), Part(text="提醒"))
    assert await courier(platform).deliver(delivery, Records()) == Delivered()
    assert [request["enable_duplicate_check"] for _, request in platform.requests] == [1, 1, 0]


async def test_a_refused_text_is_undeliverable() -> None:
    platform = Platform()
    platform.errors = [refused(85002)]
    outcome = await courier(platform).deliver(answer(Part(text="一")), Records())
    assert outcome == Undeliverable("WeCom refused message/send with code 85002")


async def test_a_file_is_put_up_once_however_often_it_is_sent() -> None:
    platform, records, uploads = Platform(), Records(), Uploads()
    platform.errors = [None, WeComUnreachable("lost", maybe_done=True)]
    outcome = await courier(platform, uploads).deliver(answer(Part(text="看"), PICTURE), records)
    assert isinstance(outcome, Retry)
    again = answer(Part(text="看"), PICTURE, attempt=2, progress=outcome.progress)
    assert await courier(platform, uploads).deliver(again, records) == Delivered()
    assert platform.said == ["看", "id1", "id1"]
    assert platform.requests[1] == platform.requests[2], "the same bytes, for the duplicate check"
    assert uploads.count == 1


async def test_a_file_that_wecom_has_let_go_of_is_put_up_anew() -> None:
    platform, uploads = Platform(), Uploads()
    platform.errors = [SlowDown(45009, "message/send", 100.0), refused(40007)]
    outcome = await courier(platform, uploads).deliver(answer(PICTURE), Records())
    assert isinstance(outcome, Waiting)
    again = answer(PICTURE, attempt=2, progress=outcome.progress)
    assert await courier(platform, uploads).deliver(again, Records()) == Delivered()
    assert platform.said == ["id1", "id1", "id2"]
    assert uploads.forgotten == ["id1"]


@pytest.mark.parametrize("where", ["upload", "send"])
async def test_a_file_that_is_not_taken_is_named(where: str) -> None:
    platform, uploads = Platform(), Uploads()
    if where == "upload":
        uploads.error = refused(45001)
    else:
        platform.errors = [refused(40007)]
    assert await courier(platform, uploads).deliver(answer(PICTURE, Part(text="完")), Records()) == Delivered()
    assert platform.said[-2:] == ["（文件：图.png，暂时无法发送）", "完"]


async def test_a_group_is_written_to_without_a_duplicate_check() -> None:
    platform, records = Platform(), Records()
    delivery = push(Part(text="日报"), card(), Part(text="完"), to="chat:wr1")
    assert await courier(platform).deliver(delivery, records) == Delivered()
    assert {call for call, _ in platform.requests} == {"appchat/send"}
    assert all("enable_duplicate_check" not in request for _, request in platform.requests)
    assert platform.said == ["日报", "【报销】\nhttps://example.com", "完"]
    assert [read_progress(record).sent for record in records] == [1, 2]


async def test_what_was_recorded_of_a_group_is_not_sent_again() -> None:
    platform, records = Platform(), Records()
    platform.errors = [None, WeComUnreachable("lost", maybe_done=True)]
    parts = (Part(text="一"), card(), Part(text="二"))
    outcome = await courier(platform).deliver(push(*parts, to="chat:wr1"), records)
    assert isinstance(outcome, Retry)
    again = push(*parts, to="chat:wr1", attempt=2, progress=outcome.progress)
    one = courier(platform)
    assert await one.deliver(again, records) == Delivered()
    assert platform.said[2:] == ["【报销】\nhttps://example.com", "二"]
    assert one._outlet.metrics.resend_suspect.labels("app")._value.get() == 1


async def test_a_group_that_got_enough_is_waited_for() -> None:
    platform = Platform()
    pace = MemberPace(0, 1)
    one = courier(platform, group_pace=pace)
    assert await one.deliver(push(Part(text="一"), to="chat:wr1"), Records()) == Delivered()
    outcome = await one.deliver(push(Part(text="二"), to="chat:wr1"), Records())
    assert isinstance(outcome, Waiting)
    assert len(platform.requests) == 1, "WeCom would have dropped it without a word"


@pytest.mark.parametrize(
    ("to", "outcome"),
    [("user:lina", Undeliverable), ("user:lina|ghost", Delivered), ("party:1", Delivered), ("@all", Delivered)],
)
async def test_who_is_missed_among_several_does_not_hold_the_others_up(to: str, outcome: type[Outcome]) -> None:
    platform = Platform()
    platform.answer = Sent("m1", missed=True)
    assert type(await courier(platform).deliver(push(Part(text="一"), to=to), Records())) is outcome


async def test_a_message_for_a_person_who_serves_shows_nothing() -> None:
    platform = Platform()
    delivery = answer(finish_reason=Turn.HANDED_OFF)
    assert await courier(platform).deliver(delivery, Records()) == Delivered()
    assert not platform.requests
