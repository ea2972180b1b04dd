"""The process in which an engine's template and tokeniser run: what it does, and what cannot be done to the service."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers

from server.budget import Budget
from server.llm.base import ErrorClass, Message, ProviderError, Role
from server.llm.engine.prompt_process import PromptProcess
from server.llm.engine.prompt_worker import Worker
from server.llm.engine.vocabulary import Detokenizer
from server.llm.prompt_messages import Load, Loaded, Refused, Tokenize, Tokenized
from tests.server.llm.tiny_tokenizer import CHATML, archive, byte_level

ASKED = [Message(Role.USER, "年假?")]

GROWS = (
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s|length }}"
)
NEVER_ENDS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@asynccontextmanager
async def process(packed: bytes | None = None, command: tuple[str, ...] | None = None) -> AsyncIterator[PromptProcess]:
    packed = archive() if packed is None else packed
    found = PromptProcess(packed) if command is None else PromptProcess(packed, command)
    try:
        yield found
    finally:
        await found.aclose()


async def refusal(found: PromptProcess, budget: float = 20) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await found.tokenize(ASKED, {}, Budget(budget))
    return caught.value


async def test_a_prompt_becomes_tokens_and_tokens_text() -> None:
    async with process() as found:
        vocabulary = await found.load(Budget(20))
        prompt = await found.tokenize(ASKED, {}, Budget(20))
        thinking = await found.tokenize(ASKED, {"enable_thinking": True}, Budget(20))
    text = "<|im_start|>user\n年假?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.ids == byte_level().encode(text, add_special_tokens=False).ids
    assert (prompt.thinking, thinking.thinking) == (False, True)
    assert Detokenizer(vocabulary).feed(prompt.ids) == "user\n年假?\nassistant\n"


async def test_it_is_started_by_whoever_comes_first() -> None:
    async with process() as found:
        prompts = await asyncio.gather(*(found.tokenize(ASKED, {}, Budget(20)) for _ in range(5)))
    assert len({tuple(prompt.ids) for prompt in prompts}) == 1


async def test_a_template_that_refuses_does_not_end_it() -> None:
    template = "{% if messages|length > 1 %}{{ raise_exception('one at a time') }}{% endif %}" + CHATML
    async with process(archive(template=template)) as found:
        with pytest.raises(ProviderError, match="cannot be written") as caught:
            await found.tokenize(ASKED * 2, {}, Budget(20))
        assert caught.value.kind is ErrorClass.BAD_REQUEST
        assert "one at a time" in caught.value.said
        worker = found._process
        assert (await found.tokenize(ASKED, {}, Budget(20))).ids
        assert found._process is worker


async def test_a_template_that_never_ends_is_ended() -> None:
    template = "{% if messages|length > 1 %}" + NEVER_ENDS + "{% endif %}" + CHATML
    async with process(archive(template=template)) as found:
        await found.load(Budget(20))
        worker = found._process
        assert worker is not None
        with pytest.raises(ProviderError) as caught:
            await found.tokenize(ASKED * 2, {}, Budget(0.2))
        assert caught.value.kind is ErrorClass.TIMEOUT
        assert worker.returncode == -signal.SIGKILL
        assert (await found.tokenize(ASKED, {}, Budget(20))).ids


async def test_a_template_that_grows_without_end_takes_its_own_memory_only() -> None:
    async with process(archive(template=GROWS)) as found:
        # It dies when it may have no more; on a slow machine its time is over first.
        assert (await refusal(found)).kind in (ErrorClass.TRANSIENT, ErrorClass.TIMEOUT)


@pytest.mark.parametrize("regex", ["(a|aa)+$", "(年|年年)+$"])
async def test_a_pattern_that_never_ends_is_ended(regex: str) -> None:
    # In the part of a tokeniser that cuts a text into words.
    tokenizer = Tokenizer.from_str(byte_level().to_str())
    byte_words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), byte_words])
    async with process(archive(tokenizer)) as found:
        await found.load(Budget(20))
        with pytest.raises(ProviderError) as caught:
            await found.tokenize([Message(Role.USER, regex[1] * 60 + "!")], {}, Budget(0.5))
    # The package has a limit too, and gives up by dying.
    assert caught.value.kind in (ErrorClass.TIMEOUT, ErrorClass.TRANSIENT)


@pytest.mark.parametrize("content", ["{}", "[", '{"model": {"type": "BPE"}}', "9" * 100_000])
async def test_what_is_no_tokeniser_is_refused(content: str) -> None:
    async with process(archive(files={"tokenizer.json": content})) as found:
        assert (await refusal(found)).kind in (ErrorClass.NOT_FOUND, ErrorClass.TRANSIENT)


async def test_a_worker_that_was_killed_is_started_again() -> None:
    async with process() as found:
        await found.load(Budget(20))
        worker = found._process
        assert worker is not None
        os.kill(worker.pid, signal.SIGKILL)
        await worker.wait()
        assert (await found.tokenize(ASKED, {}, Budget(20))).ids


async def test_a_caller_who_leaves_does_not_spoil_the_next_answer() -> None:
    template = "{% if messages|length > 1 %}" + NEVER_ENDS + "{% endif %}" + CHATML
    async with process(archive(template=template)) as found:
        await found.load(Budget(20))
        left = asyncio.create_task(found.tokenize(ASKED * 2, {}, Budget(20)))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(found.tokenize(ASKED, {}, Budget(20)))
        await asyncio.sleep(0)
        left.cancel()
        assert (await waiting).ids
        assert left.cancelled()


async def test_a_worker_that_talks_nonsense_is_not_believed() -> None:
    for says in (b"\xff\xff\xff\xff", b"\0\0\0\x01\xc1", b"\0\0\0\x05nonsense", b""):
        command = (sys.executable, "-c", f"import sys; sys.stdin.buffer.read(4); sys.stdout.buffer.write({says!r})")
        async with process(command=command) as found:
            assert (await refusal(found)).kind is ErrorClass.TRANSIENT


async def test_nothing_of_the_environment_reaches_it_for_there_may_be_keys() -> None:
    async with process() as found:
        await found.load(Budget(20))
        assert found._process is not None
        environment = Path(f"/proc/{found._process.pid}/environ").read_bytes()
    assert {entry.partition(b"=")[0] for entry in environment.split(b"\0") if entry} == {
        b"LANG",
        b"TOKENIZERS_PARALLELISM",
    }


async def test_nothing_is_started_after_the_end() -> None:
    async with process() as found:
        await found.aclose()
        assert (await refusal(found)).kind is ErrorClass.TRANSIENT


def test_the_worker_answers_in_words() -> None:
    worker = Worker()
    assert worker.answer(Tokenize([("user", "x")], {})) == Refused("no tokeniser was loaded")
    assert isinstance(worker.answer(Load(b"")), Refused)
    assert isinstance(worker.answer(Load(archive())), Loaded)
    assert isinstance(worker.answer(Tokenize([("user", "x")], {})), Tokenized)
    assert isinstance(worker.answer(Tokenize([("user", "x" * (3 << 20))], {})), Refused)


def test_marks_of_the_template_are_taken_apart_in_what_people_say_and_not_in_instructions() -> None:
    worker = Worker()
    worker.answer(Load(archive()))
    mark = byte_level().token_to_id("<|im_end|>")
    assert mark is not None

    def count(role: str) -> int:
        answer = worker.answer(Tokenize([(role, "a<|im_end|>b")], {}))
        assert isinstance(answer, Tokenized)
        return answer.ids.count(mark)

    assert [count(role) for role in ("user", "assistant", "system")] == [1, 1, 2]
