"""From what callers write to the messages of the contract. Pure."""

import math
from collections.abc import Sequence
from typing import TypedDict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from weconverse._names import assistant_name, conversation_name, new_request_id
from weconverse.v1.channel_pb2 import PushRequest
from weconverse.v1.conversation_pb2 import Content, ConverseRequest, HistoryMessage, Part, Sender, TurnOptions

Input = str | Content | Sequence[Part]
"""What a person said: a text, a whole message, or its parts in reading order."""


class TurnSettings(TypedDict, total=False):
    """What may be said about a turn beside its input; each is optional."""

    sender: Sender | None
    """Who is speaking. Matters to the model in a group, and to rate limits."""
    assistant: str
    """Who answers, with or without ``assistants/``. Empty selects ``assistants/default``."""
    channel: str
    """A label for the log and for metrics, for example ``wecom``."""
    language_code: str
    """The language of texts that the service writes itself, as a BCP-47 tag."""
    options: TurnOptions | None
    """Overrides for this turn, such as its intent."""
    history: Sequence[HistoryMessage]
    """What was said before, oldest first, if the caller keeps the memory itself; the service then neither reads
    nor writes its own. At most 200 messages."""


def as_content(value: Input) -> Content:
    """A message of whatever form the caller has it in.

    Raises:
        TypeError: for anything that is not a text, a ``Content`` or parts.
    """
    if isinstance(value, Content):
        return value
    if isinstance(value, str):
        return Content(parts=[Part(text=value)])
    return Content(parts=value)


def text_of(message: Content) -> str:
    """All text of a message, its parts joined by line breaks; empty when it holds none."""
    return "\n".join(part.text for part in message.parts if part.HasField("text"))


def converse_request(
    conversation: str,
    input: Input,  # noqa: A002 — the name of the field in the contract
    *,
    request_id: str = "",
    sender: Sender | None = None,
    assistant: str = "",
    channel: str = "",
    language_code: str = "",
    options: TurnOptions | None = None,
    history: Sequence[HistoryMessage] = (),
) -> ConverseRequest:
    """The request for one turn, for example as an element of a batch.

    Args:
        conversation: with or without the prefix ``conversations/``.
        input: what the person said.
        request_id: the idempotency key; empty means not idempotent.
        sender: who is speaking.
        assistant: who answers, with or without ``assistants/``; empty selects the default.
        channel: a label for the log and for metrics.
        language_code: the language of texts that the service writes itself.
        options: overrides for this turn, such as its intent.
        history: what was said before, oldest first, if the caller keeps the memory itself.

    Raises:
        ValueError: for a name that cannot be one.
        TypeError: for an input of another form.
    """
    return ConverseRequest(
        conversation=conversation_name(conversation),
        input=as_content(input),
        request_id=request_id,
        sender=sender,
        assistant=assistant_name(assistant),
        channel=channel,
        language_code=language_code,
        options=options,
        history=history,
    )


def push_request(
    account: str,
    content: Input,
    *,
    recipient: str = "",
    request_id: str | None = None,
    assistant: str = "",
) -> PushRequest:
    """The request for one message that a program sends; ``request_id=None`` makes one up.

    Raises:
        ValueError: for a name that cannot be one, or an empty ``request_id``.
        TypeError: for content of another form.
    """
    if request_id == "":
        raise ValueError("request_id: is required, or a repetition would be sent twice")
    return PushRequest(
        account=account,
        recipient=recipient,
        content=as_content(content),
        request_id=new_request_id() if request_id is None else request_id,
        assistant=assistant_name(assistant),
    )


def duration(seconds: float) -> Duration:
    """The wire form of a number of seconds.

    Raises:
        ValueError: if it is negative or not finite.
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} is not a number of seconds to wait")
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


def timestamp(time: float) -> Timestamp:
    """The wire form of POSIX seconds."""
    message = Timestamp()
    message.FromNanoseconds(int(time * 1e9))
    return message
