"""The nouns of the service.

Everything here is a value: no input or output, no clock, no gRPC. Every room may
import this module, and this module imports no room.

Times are POSIX seconds (``float``), durations are seconds, counts are whole
numbers. The integer values of the enumerations equal those of the contract
(``proto/weconverse/v1``), which a test holds true.
"""

import enum
import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """Plain text or Markdown."""

    text: str


class Missing(enum.IntEnum):
    """Why there are no bytes of a picture, recording or file: the channel had none, or they could not be read."""

    TOO_LARGE = 1
    UNAVAILABLE = 2
    DAMAGED = 3
    REFUSED = 4
    UNSUPPORTED = 5
    ENCRYPTED = 6
    WITHOUT_TEXT = 7
    TOO_SLOW = 8
    NO_LISTENER = 9
    NOT_UNDERSTOOD = 10


class MediaPart(msgspec.Struct, frozen=True, tag="media"):
    """A picture, a recording or a file: its bytes, its address, or neither."""

    mime_type: str
    inline_data: bytes | None = None
    uri: str | None = None
    display_name: str = ""
    missing: Missing | msgspec.UnsetType = msgspec.UNSET
    """Why there is neither, if that is said. Unset it is not encoded, so that what was said before it
    existed keeps its digest."""


Part = TextPart | MediaPart


class Content(msgspec.Struct, frozen=True):
    """A message made of parts, in reading order."""

    parts: tuple[Part, ...] = ()

    @classmethod
    def of_text(cls, text: str) -> "Content":
        """A message of one text; of no parts when the text is empty."""
        return cls((TextPart(text),) if text else ())

    @property
    def text(self) -> str:
        """All text of the message; parts are joined by line breaks."""
        if len(self.parts) == 1 and isinstance(self.parts[0], TextPart):
            return self.parts[0].text
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def media(self) -> tuple[MediaPart, ...]:
        """All that is not text."""
        return tuple(part for part in self.parts if isinstance(part, MediaPart))

    def without_bytes(self) -> "Content":
        """The message with what its media are, but not what is in them."""
        if not any(part.inline_data for part in self.media):
            return self
        return Content(
            tuple(
                msgspec.structs.replace(part, inline_data=None) if isinstance(part, MediaPart) else part
                for part in self.parts
            )
        )


def digest(content: Content) -> bytes:
    """16 bytes that tell whether two messages are the same."""
    return hashlib.blake2b(msgspec.msgpack.encode(content), digest_size=16).digest()


class Sender(msgspec.Struct, frozen=True):
    """A person: a pseudonym, and the name that the model may use (may be empty)."""

    id: str
    display_name: str = ""


class TurnOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Overrides for one turn; ``None`` keeps what the assistant says."""

    model: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    bypass_cache: bool = False
    bypass_memory: bool = False
    delta_interval: float = 0.0
    include_reasoning: bool = False
    intent: str | None = None
    """One of the assistant's intents; ``None`` lets its rules choose."""
    can_hand_off: bool = False
    """Whether the caller can bring a person in."""


NO_OPTIONS: Final = TurnOptions()


class TurnName(msgspec.Struct, frozen=True):
    """Names a turn: the conversation's and the turn's own identifier, without prefixes."""

    conversation: str
    request_id: str

    def __str__(self) -> str:
        return f"conversations/{self.conversation}/turns/{self.request_id}"


class Said(msgspec.Struct, frozen=True, array_like=True):
    """One earlier message of a conversation whose memory the caller keeps."""

    by_person: bool
    text: str


class Ask(msgspec.Struct, frozen=True):
    """One message of a person, checked and complete: what a turn begins with."""

    name: TurnName
    """Its ``request_id`` is the caller's, or was made by the server."""
    input: Content
    repeatable: bool
    """Whether the caller chose the request id, so that the turn can be found by it again."""
    assistant: str
    """The assistant's identifier, without prefix."""
    sender: Sender | None = None
    channel: str = ""
    language_code: str = ""
    options: TurnOptions = NO_OPTIONS
    caller: str = ""
    """The authenticated calling service; empty on an open loopback."""
    history: tuple["Said", ...] = ()
    """What was said before, oldest first, where the caller keeps the memory itself."""
    via: tuple[str, ...] = ()
    """The servers that passed this on, nearest last."""
    patient: bool = False
    """Nobody watches the text arrive."""
    input_digest: bytes = b""
    """:func:`digest` of what the caller said, where that is known; else, it is that of the input."""

    @property
    def said_digest(self) -> bytes:
        """:func:`digest` of what the caller said, also where :attr:`input` is what was read of it."""
        return self.input_digest or digest(self.input)

    @property
    def question(self) -> str:
        """What was said, as the model reads it."""
        return attributed(self.input.text, self.sender)


def attributed(text: str, sender: Sender | None) -> str:
    """``text`` behind the speaker's name, where one is given: a model tells the people of a group apart by it."""
    return f"{sender.display_name}:{text}" if sender is not None and sender.display_name else text


class Owed(msgspec.Struct, frozen=True):
    """To whom a turn is owed: the channel account, and an address only the channel reads."""

    account: str
    """``channels/{channel}/accounts/{account}``."""
    address: bytes = b""
    recipient: str = ""
    """In the place of the address, for a message that was pushed; may be empty."""


class Push(msgspec.Struct, frozen=True):
    """A message that a program sends through a channel, checked and complete."""

    account: str
    """``channels/{channel}/accounts/{account}``."""
    recipient: str
    """In the terms of the channel; empty where the account has one receiver only."""
    content: Content
    request_id: str
    """Unique within account and recipient."""
    assistant: str
    """The identifier, without prefix, of the assistant whose filter its texts pass."""
    caller: str = ""
    """As :attr:`Ask.caller`."""


class TurnState(enum.IntEnum):
    """Where a turn stands."""

    QUEUED = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def ended(self) -> bool:
        return self >= TurnState.SUCCEEDED


class DeliveryState(enum.IntEnum):
    """Whether the person has the reply."""

    NOT_OWED = 0
    OWED = 1
    DELIVERED = 2
    UNDELIVERABLE = 3


class FinishReason(enum.IntEnum):
    """Why a reply ended."""

    UNSPECIFIED = 0
    STOP = 1
    LENGTH = 2
    INPUT_BLOCKED = 3
    OUTPUT_BLOCKED = 4
    FLOW = 5
    PROVIDER_BLOCKED = 6
    CONVERSATION_ENDED = 7
    HANDED_OFF = 8
    MERGED = 9


class CacheOutcome(enum.IntEnum):
    """How the reply cache took part."""

    UNSPECIFIED = 0
    MISS = 1
    HIT = 2
    COALESCED = 3


class Rating(enum.IntEnum):
    """What a person thought of a reply; ``WITHDRAWN`` takes an earlier rating back."""

    WITHDRAWN = 0
    HELPFUL = 1
    UNHELPFUL = 2


class Usage(msgspec.Struct, frozen=True):
    """What the model calls of a turn consumed, in tokens; failed attempts count as attempts."""

    input_token_count: int = 0
    output_token_count: int = 0
    attempt_count: int = 1
    cached_input_token_count: int = 0
    """Those of the input that the backend had in a cache of its own, and charges less for."""


class Failure(msgspec.Struct, frozen=True):
    """Why a turn failed, as data: the stored form of a domain error (``errors.py``)."""

    reason: str
    """The name of a value of ``weconverse.v1.ErrorReason``."""
    message: str = ""
    metadata: Mapping[str, str] = {}
    retry_after: float | None = None


class Turn(msgspec.Struct):
    """One message and the reply to it, as a caller may see it.

    The only value here that changes: while a turn runs, the engine fills it in.
    Whoever needs a turn that stays as it is takes ``copy.copy`` of it.
    """

    name: TurnName
    state: TurnState
    input: Content
    create_time: float
    assistant: str = ""
    channel: str = ""
    sender: Sender | None = None
    reply: str = ""
    pushed: Content | None = None
    """The message, of a turn that answers nobody because a program pushed it; ``reply`` is its text."""
    finish_reason: FinishReason = FinishReason.UNSPECIFIED
    cache_outcome: CacheOutcome = CacheOutcome.UNSPECIFIED
    model: str = ""
    usage: Usage | None = None
    end_time: float | None = None
    first_delta_latency: float | None = None
    delivery_state: DeliveryState = DeliveryState.NOT_OWED
    failure: Failure | None = None

    def without_bytes(self) -> "Turn":
        """The turn for a list: with what its media are, but not what is in them."""
        said, pushed = self.input.without_bytes(), self.pushed and self.pushed.without_bytes()
        if said is self.input and pushed is self.pushed:
            return self
        return msgspec.structs.replace(self, input=said, pushed=pushed)


class ConversationState(enum.IntEnum):
    """Who answers."""

    ACTIVE = 1
    HANDED_OFF = 2


class Conversation(msgspec.Struct, frozen=True):
    """The state of a thread of turns; times are POSIX seconds."""

    name: str
    """The identifier, without prefix."""
    create_time: float
    update_time: float
    expire_time: float | None
    """When the remembered context lapses; ``None`` if nothing is remembered."""
    remembered_message_count: int
    state: ConversationState = ConversationState.ACTIVE


class Round(msgspec.Struct, frozen=True):
    """A question and its answer, as memory keeps them; ``time`` is when the answer was complete."""

    question: str
    answer: str
    time: float


# --- What happens while a turn runs -----------------------------------------------------


class Started(msgspec.Struct, frozen=True, tag="started", array_like=True):
    """The turn was accepted."""


class Delta(msgspec.Struct, frozen=True, tag="delta", array_like=True):
    """More reply text: at least one character."""

    text: str


class Reasoning(msgspec.Struct, frozen=True, tag="reasoning", array_like=True):
    """More of what the model thought aloud; never part of the reply."""

    text: str


class ReplacementCause(enum.IntEnum):
    """Why the reply so far was taken back."""

    UNSPECIFIED = 0
    FILTERED = 1
    FAILOVER = 2
    FAILED = 3


class Replacement(msgspec.Struct, frozen=True, tag="replacement", array_like=True):
    """The reply so far is void; this text, which may be empty, stands in its place."""

    text: str
    cause: ReplacementCause


class ProgressStage(enum.IntEnum):
    """What a turn waits for."""

    QUEUED = 1
    WAITING_FOR_MODEL = 2


class Progress(msgspec.Struct, frozen=True, tag="progress", array_like=True):
    """Still working; ``elapsed`` is the wait so far, in seconds."""

    stage: ProgressStage
    elapsed: float


class Completed(msgspec.Struct, frozen=True, tag="completed", array_like=True):
    """The turn is complete. The turn itself is beside the event, not in it."""


Event = Started | Delta | Reasoning | Replacement | Progress | Completed
