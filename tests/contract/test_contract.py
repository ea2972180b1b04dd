"""Walks the contract: what it promises is checked, what it holds is explained, and the domain agrees with it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf import descriptor
from google.protobuf.message import Message

from server import domain
from server.errors import InvalidField
from server.filter.base import ChangeKind, Origin, Why
from server.filter.entries import Action
from server.rpc import admin_checks, checks
from weconverse.v1 import admin_pb2 as admin
from weconverse.v1 import channel_pb2 as channel
from weconverse.v1 import conversation_pb2 as pb

SERVICES = (
    pb.DESCRIPTOR.services_by_name["ConversationService"],
    channel.DESCRIPTOR.services_by_name["ChannelService"],
    admin.DESCRIPTOR.services_by_name["AdminService"],
)
TURN = "conversations/a/turns/b"


def converse() -> pb.ConverseRequest:
    media = pb.Media(mime_type="image/png", uri="https://example.com/a.png")
    return pb.ConverseRequest(
        conversation="conversations/a",
        input=pb.Content(parts=[pb.Part(text="问"), pb.Part(media=media)]),
        sender=pb.Sender(id="u"),
        history=[pb.HistoryMessage(role=pb.HistoryMessage.PERSON, text="前")],
    )


def owed() -> pb.SubmitTurnRequest:
    turn = converse()
    turn.request_id = "r"
    return pb.SubmitTurnRequest(turn=turn, account="channels/wecom/accounts/a")


# Every request of the contract, whole, with its check. A new one fails the test below until it stands here.
WHOLE: dict[str, tuple[Message, Callable[[Any], Any]]] = {
    "ConverseRequest": (converse(), checks.converse),
    "SubmitTurnRequest": (owed(), checks.submit),
    "BatchConverseRequest": (pb.BatchConverseRequest(requests=[converse()]), checks.batch),
    "GetTurnRequest": (pb.GetTurnRequest(name=TURN), checks.turn),
    "FollowTurnRequest": (pb.FollowTurnRequest(name=TURN), checks.follow),
    "ListTurnsRequest": (pb.ListTurnsRequest(parent="conversations/a"), checks.list_turns),
    "CancelTurnRequest": (pb.CancelTurnRequest(name=TURN), checks.turn),
    "RateTurnRequest": (pb.RateTurnRequest(name=TURN, rating=1, rater=pb.Sender(id="u")), checks.rate),
    "GetConversationRequest": (pb.GetConversationRequest(name="conversations/a"), checks.conversation),
    "ResetConversationRequest": (pb.ResetConversationRequest(name="conversations/a"), checks.conversation),
    "HandOffConversationRequest": (pb.HandOffConversationRequest(name="conversations/a"), checks.conversation),
    "ResumeConversationRequest": (pb.ResumeConversationRequest(name="conversations/a"), checks.conversation),
    "DeleteConversationRequest": (pb.DeleteConversationRequest(name="conversations/a"), checks.conversation),
    "GetAssistantRequest": (pb.GetAssistantRequest(name="assistants/a"), checks.assistant),
    "PushRequest": (
        channel.PushRequest(account="channels/a/accounts/b", content=converse().input, request_id="r"),
        checks.push,
    ),
    "AttachRequest/hello": (
        channel.AttachRequest(hello=channel.Hello(account="channels/a/accounts/b", instance="i")),
        checks.hello,
    ),
    "AttachRequest/result": (channel.AttachRequest(result=channel.DeliveryResult(turn=TURN)), checks.result),
    "ListLexiconEntriesRequest": (admin.ListLexiconEntriesRequest(), admin_checks.list_entries),
    "TestTextRequest": (
        admin.TestTextRequest(text="问", direction=admin.LexiconEntry.INPUT),
        admin_checks.try_text,
    ),
    "AddLexiconEntryRequest": (
        admin.AddLexiconEntryRequest(entry=admin.LexiconEntry(word="加微信")),
        admin_checks.add,
    ),
    "RemoveLexiconEntryRequest": (
        admin.RemoveLexiconEntryRequest(name="lexiconEntries/ads.csv:1"),
        admin_checks.remove,
    ),
    "ReloadLexiconRequest": (admin.ReloadLexiconRequest(), lambda request: None),
    "ListLexiconAuditRequest": (admin.ListLexiconAuditRequest(), admin_checks.list_audit),
}


def required_paths(message: Message) -> Iterator[tuple[str, Message, descriptor.FieldDescriptor]]:
    """Every REQUIRED field that is set somewhere in ``message``, with the message it is in."""
    for field, value in message.ListFields():
        if field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]:
            yield field.full_name, message, field
        if field.type == field.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                yield from required_paths(inner)


def all_required(message: descriptor.Descriptor, seen: set[str]) -> Iterator[str]:
    """Every REQUIRED field that a message of this type could have, however deep."""
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        if field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]:
            yield field.full_name
        if field.message_type is not None and field.message_type.full_name.startswith("weconverse."):
            yield from all_required(field.message_type, seen)


def cases() -> Iterator[Any]:
    for name, (message, check) in WHOLE.items():
        for position, (path, inner, _) in enumerate(required_paths(message)):
            # The turns of a batch are checked one by one, each in its own result (test_conversation.py).
            checked = inner is message or not isinstance(message, pb.BatchConverseRequest)
            if checked:
                yield pytest.param(message, check, position, id=f"{name}-{path.removeprefix('weconverse.v1.')}")


@pytest.mark.parametrize(("message", "check", "position"), list(cases()))
def test_a_request_without_a_required_field_is_refused(
    message: Message, check: Callable[[Any], Any], position: int
) -> None:
    check(message)
    without = type(message)()
    without.CopyFrom(message)
    _, inner, field = list(required_paths(without))[position]
    inner.ClearField(field.name)
    with pytest.raises(InvalidField) as caught:
        check(without)
    assert field.name in caught.value.field
    assert "required" in caught.value.rule


def test_every_request_and_every_required_field_is_tried() -> None:
    requests = {method.input_type for service in SERVICES for method in service.methods}
    assert {request.name for request in requests} == {name.partition("/")[0] for name in WHOLE}
    seen: set[str] = set()
    wanted = {path for request in requests for path in all_required(request, seen)}
    tried = {path for message, _ in WHOLE.values() for path, _, _ in required_paths(message)}
    assert tried == wanted


# --- the domain -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "left_out"),
    [
        (domain.TurnState, pb.Turn.State, {"STATE_UNSPECIFIED"}),
        (domain.DeliveryState, pb.Turn.DeliveryState, {"DELIVERY_STATE_UNSPECIFIED", "NOT_OWED"}),
        (domain.FinishReason, pb.Turn.FinishReason, {"FINISH_REASON_UNSPECIFIED", "UNSPECIFIED"}),
        (domain.ConversationState, pb.Conversation.State, {"STATE_UNSPECIFIED", "ENDED"}),
        (domain.CacheOutcome, pb.Turn.CacheOutcome, {"CACHE_OUTCOME_UNSPECIFIED", "UNSPECIFIED"}),
        (domain.Rating, pb.RateTurnRequest.Rating, {"RATING_UNSPECIFIED", "WITHDRAWN"}),
        (domain.ReplacementCause, pb.TextReplacement.Cause, {"CAUSE_UNSPECIFIED", "UNSPECIFIED"}),
        (domain.ProgressStage, pb.Progress.Stage, {"STAGE_UNSPECIFIED"}),
        (domain.Missing, pb.Media.Missing, {"MISSING_UNSPECIFIED"}),
    ],
)
def test_enumerations_have_the_numbers_of_the_contract(ours: Any, theirs: Any, left_out: set[str]) -> None:
    here = {member.name: member.value for member in ours if member.name not in left_out}
    there = {name: number for name, number in theirs.items() if name not in left_out}
    assert here == there


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Action, admin.LexiconEntry.Action),
        (Origin, admin.LexiconEntry.Origin),
        (Why, admin.TestTextResponse.Occurrence.Verdict),
        (ChangeKind, admin.LexiconChange.Kind),
    ],
)
def test_enumerations_of_administrators_have_the_names_of_the_contract(ours: Any, theirs: Any) -> None:
    unspecified, *names = theirs.keys()
    assert unspecified.endswith("_UNSPECIFIED")
    assert names == [member.name for member in ours]


# --- the words ---------------------------------------------------------------------------


def test_everything_is_explained() -> None:
    folder = Path(__file__).parents[2] / "proto/weconverse/v1"
    for file in (pb.DESCRIPTOR, channel.DESCRIPTOR, admin.DESCRIPTOR):
        lines = (folder / file.name.rpartition("/")[2]).read_text(encoding="utf-8").splitlines()
        bare = [
            line.strip()
            for before, line in zip(["", *lines], lines, strict=False)
            if line.lstrip().split(" ")[0] in ("message", "enum", "rpc", "service", "oneof")
            or (line.rstrip().endswith((";", "[")) and " = " in line and not line.startswith(("option ", "syntax ")))
            if not before.strip().startswith("//")
        ]
        assert not bare
