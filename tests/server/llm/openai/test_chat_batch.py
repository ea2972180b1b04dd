"""Patient prompts share calls; streams never do, and nobody pays for a neighbour."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from server.budget import Budget
from server.domain import FinishReason, Usage
from server.llm.base import Backend, Chunk, ErrorClass, Image, Message, Prompt, ProviderError, Role
from server.llm.catalog import build_backends
from server.llm.openai.chat_batch import MOST_KINDS, BatchedChat
from server.settings import ModelSettings
from tests.server.llm.batch_server import BatchServer, serve

BOTH = pytest.mark.parametrize("batch", ["vllm_chat_batch", "completions_array"])


@asynccontextmanager
async def served(batch: str = "vllm_chat_batch", **settings: Any) -> AsyncIterator[tuple[BatchServer, Backend]]:
    async with serve() as server:
        entry = ModelSettings(preset="vllm", base_url=server.url, model="tiny", batch=batch, **settings)
        backend = build_backends({"m": entry})["m"]
        try:
            yield server, backend
        finally:
            await backend.aclose()


def ask(question: str, *, patient: bool = True, **fields: Any) -> Prompt:
    system = Message(Role.SYSTEM, "简洁")
    return Prompt("m", (system, Message(Role.USER, question)), patient=patient, user="someone", **fields)


async def answer(backend: Backend, prompt: Prompt, key: str = "", budget: float = 20) -> Chunk:
    async with aclosing(backend.generate(prompt, Budget(budget), key)) as chunks:
        found = [chunk async for chunk in chunks]
    assert [chunk.finish is not None for chunk in found] == [False] * (len(found) - 1) + [True]
    return Chunk("".join(chunk.text for chunk in found), "", found[-1].finish, found[-1].usage, found[-1].model)


async def while_one_is_under_way(server: BatchServer, backend: Backend, *prompts: Prompt) -> list[Any]:
    """The replies to prompts that come while the first of the day is being answered."""
    server.gate.clear()
    first = asyncio.create_task(answer(backend, ask("first")))
    while not server.chats:
        await asyncio.sleep(0)
    tasks = [asyncio.create_task(answer(backend, prompt)) for prompt in prompts]
    await asyncio.sleep(0)
    server.gate.set()
    assert (await first).text == "re: first"
    return await asyncio.gather(*tasks, return_exceptions=True)


def questions_of(server: BatchServer) -> list[list[str]]:
    batches = [[conversation[-1]["content"] for conversation in body["messages"]] for body in server.batches]
    return batches + [
        [prompt.split("\n")[3].removesuffix("<|im_end|>") for prompt in b["prompt"]] for b in server.arrays
    ]


@BOTH
async def test_patient_prompts_share_a_call_and_each_gets_its_own_reply(batch: str) -> None:
    async with served(batch) as (server, backend):
        replies = await while_one_is_under_way(server, backend, *(ask(f"问{n}") for n in range(5)))
        assert [reply.text for reply in replies] == [f"re: 问{n}" for n in range(5)]
        assert {(reply.finish, reply.model) for reply in replies} == {(FinishReason.STOP, "m")}
        assert questions_of(server) == [[f"问{n}" for n in range(5)]]
        # The first one was alone, and went as a chat like any other.
        assert len(server.chats) == 1


async def test_the_tokens_of_a_shared_call_are_shared_out() -> None:
    async with served() as (server, backend):
        replies = await while_one_is_under_way(server, backend, *(ask(f"问{n}") for n in range(3)))
        assert [reply.usage for reply in replies] == [Usage(30, 10)] * 3


async def test_what_a_shared_call_sends() -> None:
    async with served(extra_body={"top_p": 0.9}, extra_headers={"x-team": "a"}) as (server, backend):
        prompts = [ask(f"问{n}", temperature=0.2, max_output_tokens=64) for n in range(2)]
        await asyncio.gather(*(answer(backend, prompt, key="sk-1") for prompt in prompts))
        (body,) = server.batches
        assert body["messages"][1] == [{"role": "system", "content": "简洁"}, {"role": "user", "content": "问1"}]
        del body["messages"]
        # No pseudonym: it would be that of one of them.
        assert body == {"model": "tiny", "temperature": 0.2, "max_tokens": 64, "top_p": 0.9}
        assert server.headers[0]["authorization"] == "Bearer sk-1"
        assert server.headers[0]["x-team"] == "a"


async def test_what_a_prompt_array_sends() -> None:
    async with served("completions_array") as (server, backend):
        await asyncio.gather(*(answer(backend, ask(f"<|im_end|>{n}", temperature=0.2)) for n in range(2)))
        (body,) = server.arrays
        assert body["prompt"][1] == (
            "<|im_start|>system\n简洁<|im_end|>\n<|im_start|>user\n< |im_end|>1<|im_end|>\n<|im_start|>assistant\n"
        )
        assert (body["stream"], body["stop"], body["stream_options"]) == (True, ["<|im_end|>"], {"include_usage": True})


@BOTH
async def test_streaming_chats_and_pictures_never_wait_for_others(batch: str) -> None:
    async with served(batch, pictures="inline", batch_milliseconds=100) as (server, backend):
        picture = Message(Role.USER, "看", (Image("image/png", b"x"),))
        seen = Prompt("m", (picture,), patient=True)
        prompts = [ask("a", patient=False), ask("b", patient=False), seen, seen]
        server.gate.clear()
        tasks = [asyncio.create_task(answer(backend, prompt)) for prompt in prompts]
        while len(server.chats) < 4:
            await asyncio.sleep(0)
        server.gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not server.batches
        assert not server.arrays


async def test_other_settings_and_other_keys_are_other_calls() -> None:
    async with served() as (server, backend):
        asked = [(0.2, "k1"), (0.2, "k2"), (0.9, "k1"), (0.2, "k1"), (0.2, "k2"), (0.9, "k1")]
        await asyncio.gather(*(answer(backend, ask(f"{t}{k}", temperature=t), key=k) for t, k in asked))
        found = sorted(
            (body["temperature"], tuple(qs)) for body, qs in zip(server.batches, questions_of(server), strict=True)
        )
        assert found == [(0.2, ("0.2k1", "0.2k1")), (0.2, ("0.2k2", "0.2k2")), (0.9, ("0.9k1", "0.9k1"))]
        keys = {header["authorization"] for header in server.headers}
        assert keys == {"Bearer k1", "Bearer k2"}


async def test_one_that_is_refused_fails_alone() -> None:
    async with served() as (server, backend):
        one, bad, three = await while_one_is_under_way(server, backend, ask("a"), ask("bad"), ask("c"))
        assert (one.text, three.text) == ("re: a", "re: c")
        assert isinstance(bad, ProviderError)
        assert (bad.kind, bad.model) == (ErrorClass.CONTEXT, "m")


async def test_replies_that_were_complete_before_a_stream_broke_off_are_kept() -> None:
    async with served("completions_array") as (server, backend):
        server.cut_stream_after = 2
        one, two, *cut = await while_one_is_under_way(server, backend, *(ask(question) for question in "abcd"))
        assert (one.text, two.text) == ("re: a", "re: b")
        assert [(error.kind, error.model) for error in cut] == [(ErrorClass.INCOMPLETE, "m")] * 2
        assert cut[0] is not cut[1]


@BOTH
async def test_a_server_that_is_gone_is_an_error_of_each_ones_own(batch: str) -> None:
    entry = ModelSettings(preset="vllm", base_url="http://127.0.0.1:9/v1", batch=batch)
    gone = build_backends({"gone": entry})["gone"]
    errors = await asyncio.gather(*(answer(gone, ask(f"{n}")) for n in range(3)), return_exceptions=True)
    assert [(error.kind, error.model) for error in errors] == [(ErrorClass.TRANSIENT, "gone")] * 3  # type: ignore[union-attr]
    assert len({id(error) for error in errors}) == 3
    await gone.aclose()


async def test_a_server_without_batches_is_asked_for_one_once() -> None:
    async with served() as (server, backend):
        server.offers_batches = False
        with capture_logs() as lines:
            replies = await asyncio.gather(*(answer(backend, ask(f"{n}")) for n in range(4)))
        assert [reply.text for reply in replies] == [f"re: {n}" for n in range(4)]
        assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["llm_batch_not_offered"]
        server.offers_batches = True
        await asyncio.gather(*(answer(backend, ask(f"{n}")) for n in range(4)))
        assert not server.batches


async def test_whoever_leaves_takes_nobody_along_and_the_last_ends_the_call() -> None:
    async with served() as (server, backend):
        server.gate.clear()
        tasks = [asyncio.create_task(answer(backend, ask(f"{n}"))) for n in range(3)]
        while not server.batches:
            await asyncio.sleep(0)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert server.cancelled == 0
        tasks[1].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while not server.cancelled:
            await asyncio.sleep(0)


async def test_each_waits_within_its_own_budget() -> None:
    async with served() as (server, backend):
        server.gate.clear()
        patient = asyncio.create_task(answer(backend, ask("a")))
        with pytest.raises(ProviderError) as caught:
            await answer(backend, ask("b"), budget=0.05)
        assert caught.value.kind is ErrorClass.TIMEOUT
        server.gate.set()
        assert (await patient).text == "re: a"


async def test_too_many_kinds_go_alone_and_idle_ones_make_room() -> None:
    async with served() as (server, backend):
        assert isinstance(backend, BatchedChat)
        for n in range(2 * MOST_KINDS):
            await answer(backend, ask("a", max_output_tokens=n + 1))
        assert len(backend._batchers) == MOST_KINDS
        server.gate.clear()
        tasks = [asyncio.create_task(answer(backend, ask("a", max_output_tokens=n + 1))) for n in range(MOST_KINDS)]
        await asyncio.sleep(0)
        busy = set(backend._batchers.values())
        tasks += [asyncio.create_task(answer(backend, ask("b", max_output_tokens=n + 999))) for n in range(9)]
        while len(server.chats) < 3 * MOST_KINDS + 9:
            await asyncio.sleep(0)
        assert set(backend._batchers.values()) == busy
        server.gate.set()
        assert len(await asyncio.gather(*tasks)) == MOST_KINDS + 9


async def test_closing_fails_those_under_way() -> None:
    async with served() as (server, backend):
        server.gate.clear()
        tasks = [asyncio.create_task(answer(backend, ask(f"{n}"))) for n in range(3)]
        while not server.batches:
            await asyncio.sleep(0)
        await backend.aclose()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        assert [error.kind for error in errors] == [ErrorClass.TRANSIENT] * 3  # type: ignore[union-attr]
        with pytest.raises(ProviderError):
            await answer(backend, ask("late"))


def test_a_protocol_that_cannot_batch_says_so() -> None:
    with pytest.raises(ValueError, match=r"models\.m\.batch: .*openai_chat"):
        build_backends({"m": ModelSettings(protocol="scripted", batch="vllm_chat_batch")})
