"""Makes tokens of prompts, in a process of its own: ``python -m server.llm.engine.prompt_worker``.

The template and the tokeniser are programs, in effect, that an engine hands out: loops,
recursion, regular expressions that never come to an end, lists of a thousand million. No
sandbox inside of a process bounds all of that. So they run here, where the system bounds
the memory and the processor time, where there are no keys, no conversations and no event
loop, and where the service can simply pull the plug.

Reads questions from its input and answers them in order (``prompt_messages.py``). Ends
with its input.
"""

import datetime
import re
import resource
import sys
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from server.llm.engine.chat_template import MAX_RENDERED_CHARACTERS, ChatTemplate, TemplateError
from server.llm.engine.token_pieces import NotPiecewise, vocabulary_of
from server.llm.engine.tokenizer_bundle import UnusableBundle, read_bundle
from server.llm.prompt_messages import (
    LENGTH,
    MAX_QUESTION_BYTES,
    Answer,
    Load,
    Loaded,
    Question,
    Refused,
    Tokenize,
    Tokenized,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_MEMORY_BYTES: Final = 2 << 30
"""Address space of this process. A tokeniser of 250,000 tokens takes less than a quarter of it."""

MAX_PROCESSOR_SECONDS: Final = 30
"""Processor time for one question. The service loses patience earlier; this holds when it is gone."""

_PERSONAL: Final = frozenset({"user", "assistant"})
"""Roles whose texts are not the operator's, so that they may not hold marks of the template."""


class Worker:
    """Answers questions about one tokeniser, the one that was loaded last."""

    def __init__(self) -> None:
        self._tokenizer: Tokenizer | None = None
        self._template: ChatTemplate | None = None
        self._specials: dict[str, str] = {}
        self._marks: re.Pattern[str] | None = None

    def answer(self, question: Question) -> Answer:
        """The answer; what cannot be done is refused in words."""
        try:
            return self._load(question.archive) if isinstance(question, Load) else self._tokenize(question)
        except (UnusableBundle, TemplateError, NotPiecewise) as error:
            return Refused(str(error))
        except ImportError as error:
            return Refused(f"the package {error.name} is missing: pip install -r requirements-extras.lock")

    def _load(self, archive: bytes) -> Loaded:
        bundle = read_bundle(archive)
        template = ChatTemplate(bundle.template, lambda: datetime.datetime.now().astimezone())
        tokenizer = _tokenizer(bundle.tokenizer)
        vocabulary = vocabulary_of(tokenizer)
        special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        marks = "|".join(re.escape(mark) for mark in sorted(special, key=len, reverse=True) if len(mark) > 1)
        self._marks = re.compile(marks) if marks else None
        self._tokenizer, self._template, self._specials = tokenizer, template, bundle.specials
        return Loaded(vocabulary)

    def _tokenize(self, question: Tokenize) -> Answer:
        if self._tokenizer is None or self._template is None:
            return Refused("no tokeniser was loaded")
        messages = [
            {"role": role, "content": self._defused(text) if role in _PERSONAL else text}
            for role, text in question.messages
        ]
        if sum(len(message["content"]) for message in messages) > MAX_RENDERED_CHARACTERS:
            return Refused(f"the prompt has more than {MAX_RENDERED_CHARACTERS} characters")
        text = self._template.render(messages, **(self._specials | question.variables))
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return Tokenized(ids, text.rstrip().endswith("<think>"))

    def _defused(self, text: str) -> str:
        """A text with the marks that divide a prompt taken apart, so that nobody ends a message inside of it."""
        return text if self._marks is None else self._marks.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def _tokenizer(source: bytes) -> "Tokenizer":
    from tokenizers import Tokenizer  # optional: only these backends need it

    try:
        tokenizer = Tokenizer.from_buffer(source)
    except Exception as error:  # noqa: BLE001 the package raises nothing narrower
        raise UnusableBundle(f"tokenizer.json cannot be read: {error}") from None
    # Set in many published files, for training.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _bound() -> None:
    """Gives up what this process will not need."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _allow_a_question() -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + MAX_PROCESSOR_SECONDS
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


def _read(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    data = source.read(size) if size <= MAX_QUESTION_BYTES else b""
    return data if len(data) == size else None


def main() -> None:
    """Answers until nobody asks any more."""
    _bound()
    worker = Worker()
    decoder, encoder = msgspec.msgpack.Decoder(Question), msgspec.msgpack.Encoder()
    while (data := _read(sys.stdin.buffer)) is not None:
        _allow_a_question()
        answer = encoder.encode(worker.answer(decoder.decode(data)))
        sys.stdout.buffer.write(LENGTH.pack(len(answer)) + answer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
