"""How a turn becomes a row, and a row a turn. Pure.

What is queried is a column, what is only carried is msgpack. The columns that are read
are listed once, in the order in which :func:`read_turn` takes them.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from server.domain import (
    Ask,
    CacheOutcome,
    Content,
    DeliveryState,
    Event,
    Failure,
    FinishReason,
    Owed,
    Round,
    Said,
    Sender,
    Turn,
    TurnName,
    TurnOptions,
    TurnState,
    Usage,
    attributed,
)
from server.store.base import StoredTurn

_encode = msgspec.msgpack.Encoder().encode

Row = tuple[Any, ...]
"""Values of one row, in the order of the statement's columns."""

_TURN_COLUMNS: Final = (
    "conversation, request_id, state, delivery_state, create_time, end_time, first_delta_latency, "
    "input, ask, assistant, reply, finish_reason, cache_outcome, model, "
    "input_tokens, output_tokens, model_attempts, failure, pushed"
)
TURN_COLUMNS: Final = f"sequence, {_TURN_COLUMNS}"
"""What :func:`read_turn` reads."""

STORED_COLUMNS: Final = (
    f"{TURN_COLUMNS}, input_digest, epoch, attempts, offers, retries, account, address, progress, deliver_after, "
    "events, recipient, length(pushed)"
)
"""What :func:`read_stored` reads."""

EMPTY_INPUT: Final = _encode(Content())
"""What retention leaves of an input, and of what was pushed."""

STORED_WITHOUT_PUSHED: Final = STORED_COLUMNS.replace(
    " reply,", " CASE WHEN pushed IS NULL THEN reply ELSE '' END,"
).replace(" pushed,", f" CASE WHEN pushed IS NULL THEN NULL ELSE x'{EMPTY_INPUT.hex()}' END,")
"""The same, but of a push without its message."""

_INSERTED_COLUMNS: Final = (
    f"{_TURN_COLUMNS}, input_digest, epoch, attempts, account, address, events, recipient, bypass_memory, remembered"
)
INSERT: Final = (
    f"INSERT INTO turns ({_INSERTED_COLUMNS}) VALUES ({', '.join('?' * len(_INSERTED_COLUMNS.split(',')))}) "  # noqa: S608 - constants
    "ON CONFLICT (conversation, request_id) DO NOTHING"
)
"""Takes what :func:`inserted_row` makes."""

_PUSHED: Final = _INSERTED_COLUMNS.split(", ").index("pushed")

FINISH: Final = (
    "UPDATE turns SET state = ?, end_time = ?, first_delta_latency = ?, assistant = ?, reply = ?, finish_reason = ?, "
    "cache_outcome = ?, model = ?, input_tokens = ?, output_tokens = ?, model_attempts = ?, failure = ?, events = ?, "
    "remembered = ? AND NOT bypass_memory, input = coalesce(?, input) "
    "WHERE conversation = ? AND request_id = ? AND epoch = ?"
)
"""Takes what :func:`finished_row` makes."""


class AskBlob(msgspec.Struct, frozen=True, array_like=True):
    """The part of an ask that has no column. On disk: add fields at the end, with a default, and remove none."""

    repeatable: bool
    assistant: str
    sender: Sender | None
    channel: str
    language_code: str
    options: TurnOptions
    caller: str
    history: tuple[Said, ...] = ()
    via: tuple[str, ...] = ()


_decode_ask = msgspec.msgpack.Decoder(AskBlob).decode
_decode_input = msgspec.msgpack.Decoder(Content).decode
_decode_failure = msgspec.msgpack.Decoder(Failure).decode
_decode_events = msgspec.msgpack.Decoder(tuple[Event, ...]).decode


def without_history(ask: bytes) -> bytes:
    """What retention leaves of the ``ask`` column: nothing that anybody said."""
    rest = _decode_ask(ask)
    return _encode(msgspec.structs.replace(rest, history=())) if rest.history else ask


def joined_input(earlier: bytes, later: bytes) -> tuple[bytes, Content]:
    """Two values of the ``input`` column as one message, stored and as it is."""
    joined = Content((*_decode_input(earlier).parts, *_decode_input(later).parts))
    return _encode(joined), joined


# --- writing --------------------------------------------------------------------------


def inserted_row(stored: StoredTurn) -> Row:
    """Values for :data:`INSERT`; the sequence is the database's to give."""
    turn, ask, owed = stored.turn, stored.ask, stored.owed
    rest = AskBlob(
        ask.repeatable,
        ask.assistant,
        ask.sender,
        ask.channel,
        ask.language_code,
        ask.options,
        ask.caller,
        ask.history,
        ask.via,
    )
    usage = turn.usage
    return (
        ask.name.conversation,
        ask.name.request_id,
        int(turn.state),
        int(turn.delivery_state),
        turn.create_time,
        turn.end_time,
        turn.first_delta_latency,
        _encode(ask.input),
        _encode(rest),
        turn.assistant,
        turn.reply,
        int(turn.finish_reason),
        int(turn.cache_outcome),
        turn.model,
        usage.input_token_count if usage else None,
        usage.output_token_count if usage else None,
        usage.attempt_count if usage else None,
        _encode(turn.failure) if turn.failure else None,
        None if turn.pushed is None else _encode(turn.pushed),
        stored.input_digest,
        stored.epoch,
        stored.attempts,
        owed.account if owed else None,
        owed.address if owed else None,
        _encode(stored.events) if stored.events else None,
        owed.recipient if owed else "",
        ask.options.bypass_memory,
        is_round(turn) and not ask.options.bypass_memory,
    )


def finished_row(
    turn: Turn, events: Sequence[Event], epoch: int, end_time: float, kept_input: Content | None = None
) -> Row:
    """Values for :data:`FINISH`, taken now: the turn may change afterwards."""
    usage = turn.usage
    return (
        int(turn.state),
        end_time,
        turn.first_delta_latency,
        turn.assistant,
        turn.reply,
        int(turn.finish_reason),
        int(turn.cache_outcome),
        turn.model,
        usage.input_token_count if usage else None,
        usage.output_token_count if usage else None,
        usage.attempt_count if usage else None,
        _encode(turn.failure) if turn.failure else None,
        _encode(events) if events else None,
        is_round(turn),
        None if kept_input is None else _encode(kept_input),
        turn.name.conversation,
        turn.name.request_id,
        epoch,
    )


def pushed_size(row: Row) -> int:
    """How large the pushed message in a row of :func:`inserted_row` is; 0 without one."""
    return len(row[_PUSHED] or b"")


def is_round(turn: Turn) -> bool:
    """Whether the turn ended as a round that memory may use, if the ask allows it."""
    return (
        turn.state is TurnState.SUCCEEDED
        and turn.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        and turn.pushed is None
    )


# --- reading --------------------------------------------------------------------------


def read_turn(row: Row) -> Turn:
    """The turn in a row of :data:`TURN_COLUMNS`, or of columns that begin with them."""
    return _read_turn(row, _decode_input(row[8]), _decode_ask(row[9]))


def read_stored(row: Row) -> StoredTurn:
    """The turn in a row of :data:`STORED_COLUMNS`, with what is kept beside it."""
    content, rest = _decode_input(row[8]), _decode_ask(row[9])
    turn = _read_turn(row, content, rest)
    digest, epoch, attempts, offers, retries, account, address, progress, deliver_after, events = row[20:30]
    recipient, pushed_bytes = row[30:]
    return StoredTurn(
        turn=turn,
        ask=Ask(
            turn.name,
            content,
            rest.repeatable,
            rest.assistant,
            rest.sender,
            rest.channel,
            rest.language_code,
            rest.options,
            rest.caller,
            rest.history,
            rest.via,
        ),
        input_digest=digest,
        sequence=row[0],
        events=() if events is None else _decode_events(events),
        owed=None if account is None else Owed(account, address, recipient),
        epoch=epoch,
        attempts=attempts,
        offers=offers,
        progress=progress,
        deliver_after=deliver_after,
        retries=retries,
        pushed_bytes=pushed_bytes or 0,
    )


def read_round(row: Row) -> Round:
    """The round in a row of ``input, ask, reply, end_time``."""
    return Round(attributed(_decode_input(row[0]).text, _decode_ask(row[1]).sender), row[2], row[3])


def _read_turn(row: Row, content: Content, rest: AskBlob) -> Turn:
    input_tokens, output_tokens, model_attempts, failure, pushed = row[15:20]
    return Turn(
        name=TurnName(row[1], row[2]),
        state=TurnState(row[3]),
        input=content,
        create_time=row[5],
        assistant=row[10],
        channel=rest.channel,
        sender=rest.sender,
        reply=row[11],
        pushed=None if pushed is None else _decode_input(pushed),
        finish_reason=FinishReason(row[12]),
        cache_outcome=CacheOutcome(row[13]),
        model=row[14],
        usage=None if input_tokens is None else Usage(input_tokens, output_tokens, model_attempts),
        end_time=row[6],
        first_delta_latency=row[7],
        delivery_state=DeliveryState(row[4]),
        failure=None if failure is None else _decode_failure(failure),
    )
