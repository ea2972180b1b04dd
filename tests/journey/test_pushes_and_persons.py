"""A program that pushes, and people who ask for a person, while the server is killed again and again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tests.journey.stack import SCRIPT, SCRIPTED, SERVER, Program, free_ports
from weconverse import (
    Conversation,
    ConversationClient,
    Delivery,
    Media,
    Part,
    Turn,
    TurnOptions,
    WeConverseError,
    text_of,
)

T = TypeVar("T")

ACCOUNT = "channels/test/accounts/robot"
RECIPIENTS = ("user:a", "user:b", "")
EACH, PEOPLE, KILLS = 12, 8, 3
PICTURE = Media(mime_type="image/png", inline_data=b"\x89PNG" * 10_000)


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Asks again until the service has heard: what a program does that must not lose anything."""
    while True:
        with suppress(WeConverseError):
            return await call()
        await asyncio.sleep(0.05)


async def push_all(client: ConversationClient, recipient: str) -> None:
    for number in range(EACH):
        content = [Part(text=f"{number}"), Part(media=PICTURE)]
        await insist(lambda n=number, c=content: client.push(ACCOUNT, c, recipient=recipient, request_id=f"p{n}"))  # type: ignore[misc]  # defaults


async def ask_for_a_person(client: ConversationClient, name: str) -> None:
    for number, text in enumerate(("转人工", "有人吗")):
        await insist(
            lambda n=number, t=text: client.submit(  # type: ignore[misc]  # defaults
                name, t, request_id=f"m{n}", account=ACCOUNT, options=TurnOptions(can_hand_off=True)
            )
        )


async def deliver(client: ConversationClient, shown: list[Delivery]) -> None:
    while True:
        with suppress(WeConverseError):
            async with client.attach(ACCOUNT, "i", ended_only=True) as session:
                async for message in session:
                    if isinstance(message, Delivery):
                        shown.append(message)
                        await session.delivered(message)
        await asyncio.sleep(0.05)


async def test_kills_lose_no_push_and_no_hand_over(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    models = SCRIPTED.format(script=tmp_path / "script.toml", merge=0.0)
    (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "server.toml").write_text(SERVER.format(grpc=port, folder=tmp_path, models=models), encoding="utf-8")
    server, shown = Program("server", tmp_path / "server.toml"), list[Delivery]()
    people = [f"person{number}" for number in range(PEOPLE)]
    async with ConversationClient(f"127.0.0.1:{port}", timeout=5) as client, asyncio.timeout(60):
        running = asyncio.create_task(server.keep_running())
        delivering = asyncio.create_task(deliver(client, shown))
        writing = asyncio.gather(
            *(push_all(client, recipient) for recipient in RECIPIENTS),
            *(ask_for_a_person(client, one) for one in people),
        )
        for number in range(KILLS):
            await until(lambda n=number: len(shown) > 8 * n)  # type: ignore[misc]  # a default
            server.kill()
        await writing
        wanted = len(RECIPIENTS) * EACH + 2 * PEOPLE
        await until(lambda: len({delivery.turn for delivery in shown}) == wanted)
        for one in people:
            assert (await client.get_conversation(one)).state == Conversation.HANDED_OFF
        delivering.cancel()
        assert await server.stop() == 0
        await running
    assert server.kills == KILLS
    for recipient in RECIPIENTS:
        turns = [one.ended_turn for one in shown if one.pushed and one.recipient == recipient]
        assert all(turn.reply.parts[1].media == PICTURE for turn in turns)
        told = [text_of(turn.reply) for turn in turns]
        first = [text for index, text in enumerate(told) if text not in told[:index]]
        assert first == [f"{number}" for number in range(EACH)]
    for one in people:
        replies = {
            delivery.turn.rpartition("/")[2]: delivery.ended_turn
            for delivery in shown
            if delivery.turn.startswith(f"conversations/{one}/")
        }
        assert {turn.finish_reason for turn in replies.values()} == {Turn.HANDED_OFF}
        assert [bool(text_of(replies[name].reply)) for name in ("m0", "m1")] == [True, False]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)
