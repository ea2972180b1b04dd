"""Every error of the service is one of the contract, and survives being stored."""

import inspect

import pytest

from server import domain, errors
from server.errors import DomainError, from_failure
from weconverse.v1 import conversation_pb2, error_reason_pb2


def _kinds() -> dict[str, type[DomainError]]:
    return {
        kind.reason: kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, DomainError) and kind is not DomainError
    }


def test_each_reason_is_one_of_the_contract() -> None:
    assert set(_kinds()) <= set(error_reason_pb2.ErrorReason.keys())


def test_each_reason_of_the_contract_that_this_server_gives_has_an_error() -> None:
    not_given_yet = {"ERROR_REASON_UNSPECIFIED"}
    assert set(error_reason_pb2.ErrorReason.keys()) - set(_kinds()) == not_given_yet


def test_an_error_comes_back_from_its_stored_form_as_it_was() -> None:
    for error in (
        errors.ConversationBusy(5, 2.0),
        errors.InvalidField("input", "must not be empty"),
        errors.ReplyInterrupted("qwen"),
    ):
        back = from_failure(error.as_failure())
        assert type(back) is type(error)
        assert (back.message, back.metadata, back.retry_after) == (error.message, error.metadata, error.retry_after)


def test_an_unknown_stored_reason_is_an_internal_error() -> None:
    assert isinstance(from_failure(domain.Failure("OF_A_NEWER_VERSION")), errors.InternalError)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (domain.TurnState, conversation_pb2.Turn.State),
        (domain.FinishReason, conversation_pb2.Turn.FinishReason),
        (domain.CacheOutcome, conversation_pb2.Turn.CacheOutcome),
        (domain.DeliveryState, conversation_pb2.Turn.DeliveryState),
        (domain.ReplacementCause, conversation_pb2.TextReplacement.Cause),
        (domain.ProgressStage, conversation_pb2.Progress.Stage),
        (domain.Rating, conversation_pb2.RateTurnRequest.Rating),
    ],
)
def test_the_numbers_of_an_enumeration_are_those_of_the_contract(ours: type, theirs: object) -> None:
    numbers = {value.number for value in theirs.DESCRIPTOR.values}  # type: ignore[attr-defined]  # an enum wrapper
    missing = numbers - {int(value) for value in ours}  # type: ignore[attr-defined]  # an enum class
    assert missing <= {0}
