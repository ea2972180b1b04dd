"""The form on disk: rows that an earlier version wrote must stay readable."""

import msgspec

from server.domain import (
    Ask,
    Content,
    DeliveryState,
    Delta,
    Failure,
    FinishReason,
    MediaPart,
    Missing,
    Owed,
    Reasoning,
    Replacement,
    ReplacementCause,
    Sender,
    TextPart,
    Turn,
    TurnName,
    TurnOptions,
    TurnState,
    Usage,
    digest,
)
from server.store.base import StoredTurn
from server.store.rows import STORED_COLUMNS, read_stored

CONTENT = Content((TextPart("看图"), MediaPart("image/png", b"\x89PNG", None, "a.png")))
ASK = Ask(
    TurnName("c", "m1"),
    CONTENT,
    True,
    "default",
    Sender("u1", "张三"),
    "wecom",
    "zh-CN",
    TurnOptions(temperature=0.5),
    "desk",
)
EVENTS = (Reasoning("想"), Delta("好"), Replacement("", ReplacementCause.FAILOVER), Delta("好的"))

# Written by the first version. Never change these: change the reading.
INPUT = bytes.fromhex(
    "81a570617274739282a474797065a474657874a474657874a6e79c8be59bbe85a474797065a56d65646961a96d696d655f74"
    "797065a9696d6167652f706e67ab696e6c696e655f64617461c40489504e47a3757269c0ac646973706c61795f6e616d65a5"
    "612e706e67"
)
REST = bytes.fromhex(
    "97c3a764656661756c7482a26964a27531ac646973706c61795f6e616d65a6e5bca0e4b889a57765636f6da57a682d434e81"
    "ab74656d7065726174757265cb3fe0000000000000a46465736b"
)
FAILURE = bytes.fromhex(
    "84a6726561736f6eaa4f5645524c4f41444544a76d657373616765a466756c6ca86d6574616461746181a161a162ab726574"
    "72795f6166746572cb4000000000000000"
)
RECORDED = bytes.fromhex(
    "9492a9726561736f6e696e67a3e683b392a564656c7461a3e5a5bd93ab7265706c6163656d656e74a00292a564656c7461a6e5a5bde79a84"
)


def test_a_row_of_the_first_version_is_readable() -> None:
    row = (
        *(7, "c", "m1", 4, 1, 100.0, 101.0, 0.5, INPUT, REST, "default", "好的", 1, 1, "fast", 12, 3, 2, FAILURE, None),
        *(digest(CONTENT), 2, 2, 1, 3, "acc", b"to", b"1/2", 130.0, RECORDED, "", None),
    )
    assert len(row) == len(STORED_COLUMNS.split(","))
    turn = Turn(
        ASK.name,
        TurnState.FAILED,
        CONTENT,
        100.0,
        assistant="default",
        channel="wecom",
        sender=ASK.sender,
        reply="好的",
        finish_reason=FinishReason.STOP,
        cache_outcome=1,  # type: ignore[arg-type]  # an IntEnum equals its number
        model="fast",
        usage=Usage(12, 3, 2),
        end_time=101.0,
        first_delta_latency=0.5,
        delivery_state=DeliveryState.OWED,
        failure=Failure("OVERLOADED", "full", {"a": "b"}, 2.0),
    )
    assert read_stored(row) == StoredTurn(
        turn, ASK, digest(CONTENT), 7, EVENTS, Owed("acc", b"to"), 2, 2, 1, b"1/2", 130.0, retries=3
    )


def test_the_digest_of_an_input_stays_what_it_was() -> None:
    """Rows keep it for as long as their key; another digest would make every repeated request an error."""
    assert digest(CONTENT).hex() == "dfc163b2fd55ceb5de4515afc0701301"


def test_what_is_said_of_missing_bytes_is_kept() -> None:
    part = MediaPart("video/mp4", missing=Missing.TOO_LARGE)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(Content((part,))), type=Content)
    assert kept.media == (part,)
    assert digest(kept) != digest(Content((MediaPart("video/mp4"),)))
