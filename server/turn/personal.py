"""Personal data of one turn: what models may read of it, and what stays in the house."""

from collections.abc import Callable

import msgspec

from server.budget import Budget
from server.domain import Ask, Content, TextPart
from server.filter.pii.guard import Guarded, PiiGuard, ReplyText, mask_for_log
from server.llm.base import Message, Role
from server.turn.live import LiveTurn
from server.turn.prompting import Question

NewReply = Callable[[], ReplyText]
"""Makes what a text of the model passes through before anything else sees it."""


async def keep_masked(live: LiveTurn, guard: PiiGuard | None, budget: Budget) -> None:
    """Keeps only the masks of what was said: in memory and on disk too, once the turn has ended.

    Args:
        guard: ``None`` where what was said is kept as it is.

    Raises:
        RecogniserFailed: as :meth:`server.filter.pii.PiiGuard.guard`.
    """
    if guard is None:
        return
    texts = [part.text for part in live.ask.input.parts if isinstance(part, TextPart)]
    masked = iter((await guard.guard(texts, budget)).texts)
    parts = tuple(TextPart(next(masked)) if isinstance(part, TextPart) else part for part in live.ask.input.parts)
    if parts != live.ask.input.parts:
        live.hide(Content(parts))


def public_form(ask: Ask) -> Ask:
    """The same message as services beside the answering model may read it: every value masked."""
    return msgspec.structs.replace(ask, input=Content((TextPart(mask_for_log(ask.input.text)), *ask.input.media)))


async def guarded(question: Question, guard: PiiGuard, budget: Budget) -> tuple[Question, NewReply]:
    """A question as the model may read it, and what makes its reply readable again.

    One that holds names for values is personal: its reply, with the values in it, is nobody else's.

    Raises:
        RecogniserFailed: as :meth:`server.filter.pii.PiiGuard.guard`.
    """
    messages = question.prompt.messages
    spoken = [message for message in messages if message.role is not Role.SYSTEM]
    texts = [message.text for message in spoken]
    result: Guarded = await guard.guard(texts, budget)
    changed = list(result.texts) != texts
    if changed:
        said = [msgspec.structs.replace(message, text=text) for message, text in zip(spoken, result.texts, strict=True)]
        messages = (*_instructions(messages, result.hint), *said)
    prompt = msgspec.structs.replace(question.prompt, messages=messages)
    return Question(prompt, question.personal or changed), result.reply


def _instructions(messages: tuple[Message, ...], hint: str) -> tuple[Message, ...]:
    """The instructions, with a sentence about the names in the texts."""
    text = "\n\n".join(part for part in (*(each.text for each in messages if each.role is Role.SYSTEM), hint) if part)
    return (Message(Role.SYSTEM, text),) if text else ()
