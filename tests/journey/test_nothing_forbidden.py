"""A model that tries to say listed words, in every disguise and cut at every place, says none of them.

Looked for in every frame that reaches the chat page, in every event of a stream, in what is
cached and remembered, and in the files on disk.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from server.compose import running
from server.filter.fold import fold_word
from server.settings import (
    AssistantSettings,
    FilterSettings,
    GrpcSettings,
    ModelLimitSettings,
    ModelSettings,
    OperationsSettings,
    PolicySettings,
    Settings,
    StoreSettings,
)
from simulator.chats import Bubble
from tests.journey.stack import running_stack
from weconverse import ConversationClient
from weconverse.v1.conversation_pb2 import StreamConverseResponse, TurnOptions

CASES = json.loads((Path(__file__).parents[1] / "data/cases/filter.json").read_text(encoding="utf-8"))
EVASIONS: list[tuple[str, str]] = [
    (case["text"], case["base"]) for case in CASES["evasions"] if case["should_catch"] is True
]
BEFORE, BEHIND = "好的，", "，就是这样。"


def word_list(folder: Path) -> Path:
    """The words of the cases and their allowed phrases, as an operator would write them down."""
    file = folder / "words.csv"
    rows = ["word,tag,allow", *(f"{entry['word']},{entry['tag']}," for entry in CASES["deny"])]
    rows += [f"{phrase},,yes" for phrase in CASES["allow"]]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def forbidden(text: str, base: str, evasion: str) -> bool:
    """Whether a text shows the word: as it was written, or with everything stripped from it."""
    return evasion in text or fold_word(base) in fold_word(text)


class Mouth:
    """A model server that says what a question asks for: ``#case:place``, cut at that place of the evasion."""

    def __init__(self) -> None:
        self.base_url = ""
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        question = body["messages"][-1]["content"]
        self.asked.append(json.dumps(body["messages"], ensure_ascii=False))
        case, place = (int(part) for part in question.rpartition("#")[2].split(":"))
        text = EVASIONS[case][0]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in (BEFORE, text[:place], text[place:], BEHIND):
            await response.write(_piece({"content": piece, "reasoning_content": piece}))
            # Lets the reader have the pieces one by one; whether it does changes nothing that is promised.
            await asyncio.sleep(0.002)
        await response.write(_piece({}, "stop") + b"data: [DONE]\n\n")
        return response


def _piece(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


@asynccontextmanager
async def mouth() -> AsyncIterator[Mouth]:
    spoken = Mouth()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", spoken.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        spoken.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield spoken
    finally:
        await runner.cleanup()


def texts_of(events: Iterable[StreamConverseResponse]) -> Iterable[str]:
    for event in events:
        yield event.delta.text
        yield event.reasoning.text
        yield event.replacement.text
        yield from (part.text for part in event.completed.turn.reply.parts)


def whole(events: Sequence[StreamConverseResponse], kind: str) -> str:
    return "".join(getattr(event, kind).text for event in events)


async def test_no_event_no_cache_no_memory_and_no_file_holds_a_listed_word(tmp_path: Path) -> None:
    async with mouth() as model:
        settings = Settings(
            grpc=GrpcSettings(address="127.0.0.1:0"),
            operations=OperationsSettings(address=""),
            store=StoreSettings(path=str(tmp_path / "turns.db")),
            assistants={"default": AssistantSettings(memory_rounds=5)},
            models={
                "default": ModelSettings(base_url=model.base_url, limits=ModelLimitSettings(requests_per_minute=0))
            },
            filter=FilterSettings(
                lists=(str(word_list(tmp_path)),), policies={"default": PolicySettings(other_output="mask")}
            ),
        )
        async with running(settings) as server, ConversationClient(f"127.0.0.1:{server.port}") as client:
            places = asyncio.Semaphore(8)

            async def one(case: int, place: int) -> None:
                text, base = EVASIONS[case]
                async with places:
                    events = await _events(client, f"conversations/c{case}-{place}", f"说 #{case}:{place}")
                    for kind in ("delta", "reasoning"):
                        shown = whole(events, kind)
                        assert shown.startswith(BEFORE)
                        assert shown.endswith(BEHIND)
                        assert "＊" in shown, (text, place, shown)
                    for said in (*texts_of(events), whole(events, "delta"), whole(events, "reasoning")):
                        assert not forbidden(said, base, text), (text, place, said)
                    # Another conversation sees what the cache kept; a second turn of this one what memory kept.
                    again = await _events(client, f"conversations/d{case}-{place}", f"说 #{case}:{place}")
                    await _events(client, f"conversations/c{case}-{place}", f"再说 #{case}:{place}")
                for said in texts_of(again):
                    assert not forbidden(said, base, text)

            cuts = [(case, place) for case, (text, _) in enumerate(EVASIONS) for place in range(len(text) + 1)]
            assert len(cuts) > 300
            await asyncio.gather(*(one(case, place) for case, place in cuts))
        assert not any(forbidden(said, base, text) for said in model.asked for text, base in EVASIONS)
    # The file of turns holds memory, log and events; nothing of it was deleted yet.
    for file in tmp_path.glob("turns.db*"):
        held = file.read_bytes()
        for text, _ in EVASIONS:
            assert text.encode() not in held, (file.name, text)


async def _events(client: ConversationClient, conversation: str, question: str) -> list[StreamConverseResponse]:
    options = TurnOptions(include_reasoning=True)
    async with client.stream(conversation, question, options=options) as stream:
        return [event async for event in stream]


@pytest.mark.parametrize("chat", ["app", "bot"])
async def test_no_frame_that_reaches_the_chat_page_holds_a_listed_word(tmp_path: Path, chat: str) -> None:
    async with mouth() as model:
        models = (
            f'[filter]\nlists = ["{word_list(tmp_path)}"]\n'
            f'[models.default]\nbase_url = "{model.base_url}"\nlimits = {{ requests_per_minute = 0 }}\n'
        )
        async with running_stack(tmp_path, persons=len(EVASIONS), models=models) as stack:
            sim = stack.simulator
            frames: list[Bubble] = []
            stop = sim.listen(lambda change: frames.append(change) if isinstance(change, Bubble) else None)

            async def one(case: int) -> None:
                person, (text, _) = f"person{case:02}", EVASIONS[case]
                for number, place in enumerate(range(len(text) + 1)):
                    write = sim.write_to_app if chat == "app" else sim.write_to_bot
                    await write(person, f"说 #{case}:{place}")
                    await sim.wait_for(lambda count=number + 1: _finished(sim.replies(person, chat), count), 60)

            # Every place of some, and one person each: the platform is the slow part here.
            await asyncio.gather(*(one(case) for case in range(0, len(EVASIONS), 6)))
            stop()
    shown = [frame for frame in frames if frame.speaker.startswith(chat)]
    assert sum("＊" in frame.text for frame in shown) > 50
    for frame in shown:
        for text, base in EVASIONS:
            assert not forbidden(frame.text + frame.thoughts, base, text), frame


def _finished(replies: list[Bubble], count: int) -> bool:
    return len(replies) >= count and all(bubble.finished for bubble in replies)
