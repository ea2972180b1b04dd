"""What a request must be like: a function a message, a rule a field.

A broken rule is an :class:`InvalidField` that names the field as in the request, the rule
and the remedy. How long a message may be is not decided here but by the turns, because
one that is owed an answer is answered with a sentence instead.
"""

import math
import re
from collections.abc import Callable
from typing import Final

from google.protobuf import duration_pb2

from server.errors import InvalidField
from weconverse.v1 import channel_pb2, conversation_pb2

_ID: Final = r"[a-zA-Z0-9._~-]{1,128}"
_ACCOUNT_PART: Final = r"[a-zA-Z0-9._-]{1,64}"

Match = Callable[[str], re.Match[str] | None]

_REQUEST_ID: Final[Match] = re.compile(_ID).fullmatch
_CONVERSATION: Final[Match] = re.compile(f"conversations/{_ID}").fullmatch
_TURN: Final[Match] = re.compile(f"conversations/{_ID}/turns/{_ID}").fullmatch
_ASSISTANT: Final[Match] = re.compile(f"assistants/{_ID}").fullmatch
_ACCOUNT: Final[Match] = re.compile(f"channels/{_ACCOUNT_PART}/accounts/{_ACCOUNT_PART}").fullmatch
_CHANNEL: Final[Match] = re.compile(r"[a-z0-9-]{1,32}").fullmatch
_NODE: Final[Match] = re.compile(_ACCOUNT_PART).fullmatch
_LANGUAGE: Final[Match] = re.compile(r"[a-zA-Z]{2,8}(-[a-zA-Z0-9]{1,8}){0,8}").fullmatch
_MIME_TYPE: Final[Match] = re.compile(r"[a-zA-Z0-9!#$&^_.+-]{1,127}/[a-zA-Z0-9!#$&^_.+-]{1,127}").fullmatch

_HISTORY_ROLES: Final = (
    conversation_pb2.HistoryMessage.PERSON,
    conversation_pb2.HistoryMessage.ASSISTANT,
)

_ID_RULE: Final = "1 to 128 characters of [a-zA-Z0-9._~-]"

MAX_PARTS: Final = 64
MAX_PUSHED_PARTS: Final = 32
MAX_RECIPIENT_CHARACTERS: Final = 256
MAX_INLINE_BYTES: Final = 20 * 1024 * 1024
"""Of all parts of a message together."""

MAX_ADDRESS_BYTES: Final = 4096
MAX_PROGRESS_BYTES: Final = 4096
MAX_BATCH: Final = 256
MAX_DELTA_INTERVAL_SECONDS: Final = 2.0
MAX_RETRY_DELAY_SECONDS: Final = 24 * 3600.0
MAX_OUTPUT_TOKENS: Final = 32768
MAX_OPEN_DELIVERIES: Final = 1024
DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200
MAX_COMMENT_CHARACTERS: Final = 1000
MAX_HISTORY: Final = 200
MAX_HISTORY_CHARACTERS: Final = 20000
MAX_HOPS: Final = 8


def _require(matches: Match, value: str, field: str, rule: str) -> None:
    if not value:
        raise InvalidField(field, f"is required; set it to {rule}")
    if matches(value) is None:
        raise InvalidField(field, f"must be {rule}")


def _conversation(value: str, field: str) -> None:
    _require(_CONVERSATION, value, field, f"conversations/{{conversation}}, which is {_ID_RULE}")


def _turn(value: str, field: str) -> None:
    _require(_TURN, value, field, f"conversations/{{conversation}}/turns/{{turn}}, each {_ID_RULE}")


def _account(value: str, field: str) -> None:
    rule = "channels/{channel}/accounts/{account}, each 1 to 64 characters of [a-zA-Z0-9._-]"
    _require(_ACCOUNT, value, field, rule)


# --- a turn -------------------------------------------------------------------------------


def converse(request: conversation_pb2.ConverseRequest, path: str = "") -> None:
    """Checks a turn; ``path`` stands before the names of its fields."""
    _conversation(request.conversation, f"{path}conversation")
    _input(request.input, f"{path}input")
    if request.request_id and _REQUEST_ID(request.request_id) is None:
        raise InvalidField(f"{path}request_id", f"must be {_ID_RULE}, or empty for a turn that is not repeated")
    if request.HasField("sender"):
        sender(request.sender, f"{path}sender")
    if request.assistant and _ASSISTANT(request.assistant) is None:
        raise InvalidField(f"{path}assistant", f"must be assistants/{{assistant}}, which is {_ID_RULE}, or empty")
    if request.channel and _CHANNEL(request.channel) is None:
        raise InvalidField(f"{path}channel", "must be 1 to 32 characters of [a-z0-9-], or empty")
    if request.language_code and _LANGUAGE(request.language_code) is None:
        raise InvalidField(f"{path}language_code", "must be a BCP-47 tag such as zh-CN, or empty")
    if request.HasField("options"):
        _options(request.options, f"{path}options")
    _history(request, path)
    _via(request, path)


def _history(request: conversation_pb2.ConverseRequest, path: str) -> None:
    if len(request.history) > MAX_HISTORY:
        raise InvalidField(f"{path}history", f"has {len(request.history)} entries, {MAX_HISTORY} are allowed; drop old")
    for index, message in enumerate(request.history):
        field = f"{path}history[{index}]"
        if message.role not in _HISTORY_ROLES:
            raise InvalidField(f"{field}.role", "is required; set it to PERSON or ASSISTANT")
        if not message.text:
            raise InvalidField(f"{field}.text", "is required; leave the message out if there is none")
        if not 1 <= len(message.text) <= MAX_HISTORY_CHARACTERS:
            raise InvalidField(
                f"{field}.text", f"must have 1 to {MAX_HISTORY_CHARACTERS} characters, and has {len(message.text)}"
            )


def _via(request: conversation_pb2.ConverseRequest, path: str) -> None:
    if len(request.via) > MAX_HOPS:
        raise InvalidField(f"{path}via", f"has {len(request.via)} entries, {MAX_HOPS} are allowed; route more directly")
    for index, node in enumerate(request.via):
        _require(_NODE, node, f"{path}via[{index}]", "1 to 64 characters of [a-zA-Z0-9._-]")


def _input(content: conversation_pb2.Content, field: str, most: int = MAX_PARTS) -> None:
    count = len(content.parts)
    if count == 0:
        raise InvalidField(field, "is required; give at least one part")
    if count > most:
        raise InvalidField(f"{field}.parts", f"has {count} entries, {most} are allowed; join texts")
    something = False
    inline_bytes = 0
    for index, part in enumerate(content.parts):
        if part.HasField("text"):
            something = something or (not part.text.isspace() and part.text != "")
        elif part.HasField("media"):
            inline_bytes += _media(part.media, f"{field}.parts[{index}].media", MAX_INLINE_BYTES - inline_bytes)
            something = True
        else:
            raise InvalidField(f"{field}.parts[{index}]", "must have text or media; set one of them")
    if not something:
        raise InvalidField(field, "must say something; give a part that is more than white space")


def _media(media: conversation_pb2.Media, field: str, room: int) -> int:
    """Returns how many bytes there are, of ``room``."""
    _require(_MIME_TYPE, media.mime_type, f"{field}.mime_type", "an IANA media type such as image/png")
    size = len(media.inline_data)
    if size > room:
        raise InvalidField(
            f"{field}.inline_data", f"must be at most {MAX_INLINE_BYTES} bytes in all parts; use uri above that"
        )
    if media.HasField("uri") and not (media.uri.startswith("https://") and len(media.uri) <= 2048):
        raise InvalidField(f"{field}.uri", "must be an https address of at most 2048 characters")
    if media.missing and media.WhichOneof("source") is not None:
        raise InvalidField(f"{field}.missing", "must be unset where the bytes are there; drop it, or the source")
    return size


def sender(person: conversation_pb2.Sender, field: str) -> None:
    """Checks a person."""
    if not person.id:
        raise InvalidField(f"{field}.id", "is required; set it to a pseudonym of the person, or leave the sender out")
    if len(person.id) > 128:
        raise InvalidField(f"{field}.id", "must be at most 128 characters; use a digest")
    if len(person.display_name) > 64:
        raise InvalidField(f"{field}.display_name", "must be at most 64 characters; cut it")


def _options(options: conversation_pb2.TurnOptions, field: str) -> None:
    if options.HasField("model") and not 1 <= len(options.model) <= 128:
        raise InvalidField(f"{field}.model", "must be the name of a model, of 1 to 128 characters; or leave it out")
    if options.HasField("intent") and not 1 <= len(options.intent) <= 64:
        raise InvalidField(f"{field}.intent", "must have 1 to 64 characters, or be left out")
    if options.HasField("temperature"):
        temperature = options.temperature
        if not (math.isfinite(temperature) and 0.0 <= temperature <= 2.0):
            raise InvalidField(f"{field}.temperature", f"must be in [0.0, 2.0], and is {temperature:g}")
    if options.HasField("max_output_tokens") and not 1 <= options.max_output_tokens <= MAX_OUTPUT_TOKENS:
        raise InvalidField(
            f"{field}.max_output_tokens", f"must be in [1, {MAX_OUTPUT_TOKENS}], and is {options.max_output_tokens}"
        )
    if options.HasField("delta_interval"):
        _duration(options.delta_interval, f"{field}.delta_interval", MAX_DELTA_INTERVAL_SECONDS)


def _duration(duration: duration_pb2.Duration, field: str, most: float) -> None:
    nanos = duration.nanos
    # Mixed signs and a billion of nanoseconds are not durations at all (duration.proto).
    if nanos < 0 or nanos > 999_999_999 or not 0 <= duration.seconds + nanos / 1e9 <= most:
        raise InvalidField(field, f"must be in [0 s, {most:g} s]")


def submit(request: conversation_pb2.SubmitTurnRequest) -> None:
    """Checks a turn that shall be owed."""
    if not request.HasField("turn"):
        raise InvalidField("turn", "is required; set it to the turn that is owed an answer")
    converse(request.turn, "turn.")
    if not request.turn.request_id:
        raise InvalidField("turn.request_id", "is required here; use the identifier the platform gave the message")
    _account(request.account, "account")
    if len(request.address) > MAX_ADDRESS_BYTES:
        raise InvalidField("address", f"must be at most {MAX_ADDRESS_BYTES} bytes, and has {len(request.address)}")


def batch(request: conversation_pb2.BatchConverseRequest) -> None:
    """Checks the size of a batch. Its turns are checked one by one: a bad one fails alone."""
    count = len(request.requests)
    if count == 0:
        raise InvalidField("requests", "is required; give at least one turn")
    if count > MAX_BATCH:
        raise InvalidField("requests", f"must be at most {MAX_BATCH} turns, and has {count}; split the batch")


# --- what exists --------------------------------------------------------------------------


def turn(request: conversation_pb2.GetTurnRequest | conversation_pb2.CancelTurnRequest) -> None:
    """Checks a request that names a turn."""
    _turn(request.name, "name")


def follow(request: conversation_pb2.FollowTurnRequest) -> None:
    """Checks a request to follow a turn."""
    _turn(request.name, "name")
    if request.after_sequence < 0:
        raise InvalidField("after_sequence", "must be the sequence of the last event you have, or 0")


def list_turns(request: conversation_pb2.ListTurnsRequest) -> None:
    """Checks a request for a page."""
    _conversation(request.parent, "parent")
    if request.page_size < 0:
        raise InvalidField("page_size", f"must be in [0, {MAX_PAGE_SIZE}]; 0 means {DEFAULT_PAGE_SIZE}")
    if len(request.page_token) > 256:
        raise InvalidField("page_token", "must be the next_page_token of an earlier page, or empty")


def rate(request: conversation_pb2.RateTurnRequest) -> None:
    """Checks a rating. An unset ``rating`` is one of its own: it withdraws an earlier one."""
    _turn(request.name, "name")
    if request.rating not in conversation_pb2.RateTurnRequest.Rating.values():
        raise InvalidField("rating", f"must be a known rating, and is {request.rating}")
    if request.HasField("rater"):
        sender(request.rater, "rater")


def conversation(
    request: conversation_pb2.GetConversationRequest
    | conversation_pb2.ResetConversationRequest
    | conversation_pb2.HandOffConversationRequest
    | conversation_pb2.ResumeConversationRequest
    | conversation_pb2.DeleteConversationRequest,
) -> None:
    """Checks a request that names a conversation."""
    _conversation(request.name, "name")


def assistant(request: conversation_pb2.GetAssistantRequest) -> None:
    """Checks a request that names an assistant."""
    _require(_ASSISTANT, request.name, "name", f"assistants/{{assistant}}, which is {_ID_RULE}")


# --- pushes -------------------------------------------------------------------------------


def push(request: channel_pb2.PushRequest) -> None:
    """Checks a message that shall be sent through a channel."""
    _account(request.account, "account")
    if len(request.recipient) > MAX_RECIPIENT_CHARACTERS:
        raise InvalidField("recipient", f"must be at most {MAX_RECIPIENT_CHARACTERS} characters")
    _input(request.content, "content", MAX_PUSHED_PARTS)
    for index, part in enumerate(request.content.parts):
        if part.HasField("media") and part.media.WhichOneof("source") is None:
            raise InvalidField(
                f"content.parts[{index}].media", "must have inline_data or uri; there is nothing to send"
            )
    _require(_REQUEST_ID, request.request_id, "request_id", _ID_RULE)
    if request.assistant and _ASSISTANT(request.assistant) is None:
        raise InvalidField("assistant", f"must be assistants/{{assistant}}, which is {_ID_RULE}, or empty")


# --- channels -----------------------------------------------------------------------------


def hello(request: channel_pb2.AttachRequest | None) -> channel_pb2.Hello:
    """The greeting that must come first on a channel's stream; ``None`` is a stream without any message."""
    if request is None or not request.HasField("hello"):
        raise InvalidField("hello", "is required; it must be the first message of the stream")
    greeting = request.hello
    _account(greeting.account, "hello.account")
    if not 1 <= len(greeting.instance) <= 64:
        raise InvalidField("hello.instance", "is required; set it to a name of 1 to 64 characters")
    if not 0 <= greeting.max_open_deliveries <= MAX_OPEN_DELIVERIES:
        raise InvalidField("hello.max_open_deliveries", f"must be in [0, {MAX_OPEN_DELIVERIES}]; 0 means 64")
    return greeting


def result(request: channel_pb2.AttachRequest) -> channel_pb2.DeliveryResult:
    """A result, which is all that may come after the greeting."""
    if not request.HasField("result"):
        raise InvalidField("result", "is required; after hello, only results may be sent")
    outcome = request.result
    _turn(outcome.turn, "result.turn")
    if outcome.outcome not in channel_pb2.DeliveryResult.Outcome.values():
        raise InvalidField("result.outcome", f"must be a known outcome, and is {outcome.outcome}; update the service")
    if len(outcome.progress) > MAX_PROGRESS_BYTES:
        raise InvalidField("result.progress", f"must be at most {MAX_PROGRESS_BYTES} bytes")
    if outcome.HasField("retry_delay"):
        _duration(outcome.retry_delay, "result.retry_delay", MAX_RETRY_DELAY_SECONDS)
    return outcome
