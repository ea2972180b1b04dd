"""A model that dies after token k, for every k of a long answer: the person ends with exactly one whole answer."""

import json
import socket
import struct
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from server.budget import Budget
from server.domain import FinishReason
from server.llm.catalog import build_backends
from server.routing.build import routing
from server.settings import ModelSettings, RoutingSettings, Settings
from tests.server.llm.upstream import CHUNKED_HEAD, DONE, HEAD, Request, chunked, hangs, piece, says, serve
from tests.server.routing.played import ASKED, Noted, Shown, as_asked, watch
from tests.server.routing.unlimited import Unlimited

FIRST = [f"先{index} " for index in range(50)]
SECOND = [f"后{index} " for index in range(50)]
ANSWER = "".join(SECOND)
BOTH = msgspec.structs.replace(ASKED, fallbacks=("b",))

Death = Callable[[Request, list[bytes]], Awaitable[None]]


async def ends(request: Request, pieces: list[bytes]) -> None:
    """Without length framing this looks like a regular end."""
    await request.say(HEAD + b"".join(pieces))


async def ends_in_a_chunk(request: Request, pieces: list[bytes]) -> None:
    await request.say(CHUNKED_HEAD + b"".join(chunked(each) for each in pieces) + b"40\r\ndata: {")


async def resets(request: Request, pieces: list[bytes]) -> None:
    await request.say(HEAD + b"".join(pieces))
    connection: socket.socket = request.writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.writer.transport.abort()


async def stalls(request: Request, pieces: list[bytes]) -> None:
    await request.say(HEAD + b"".join(pieces))
    await hangs(request)


async def reports(request: Request, pieces: list[bytes]) -> None:
    error = {"error": {"message": "the engine died", "code": 500}}
    await request.say(HEAD + b"".join(pieces) + b"data: " + json.dumps(error).encode() + b"\n\n" + DONE)


@pytest.mark.parametrize("death", [ends, ends_in_a_chunk, resets, stalls, reports])
async def test_after_every_token(death: Death) -> None:
    told: list[bytes] = []

    async def dies(request: Request) -> None:
        await death(request, told)

    whole = HEAD + b"".join(piece(token) for token in SECOND) + piece(finish="stop") + DONE
    # Elsewhere a time-out so short would end a call before a busy machine had read it.
    silence = 0.03 if death is stalls else 5.0
    async with serve(dies) as broken, serve(says(whole)) as sound:
        settings = Settings(
            models={
                "a": ModelSettings(base_url=broken.url, first_token_seconds=silence, idle_seconds=silence),
                "b": ModelSettings(base_url=sound.url),
            },
            # Else it would rightly not be called any more, long before the last token.
            routing=RoutingSettings(breaker_min_calls=1000, breaker_connect_failures=1000),
        )
        backends, takes = build_backends(settings.models), dict.fromkeys(settings.models, lambda prompt: True)
        observer, caps = Noted(), dict.fromkeys(settings.models, as_asked)
        async with routing(settings, backends, Unlimited(), observer, takes=takes, most_output=caps) as router:
            for count in range(len(FIRST) + 1):
                told[:] = [piece(token) for token in FIRST[:count]]
                shown = await watch(router, BOTH, Budget(20))
                _is_one_whole_answer(shown, count)
        assert len(sound.requests) == len(FIRST) + 1
        assert len(broken.requests) == len(FIRST) + 1 or death is stalls
    assert sum(outcome == "ok" for _, outcome in observer.attempts) == len(FIRST) + 1


def _is_one_whole_answer(shown: Shown, count: int) -> None:
    assert (shown.text, shown.finish, shown.model) == (ANSWER, FinishReason.STOP, "b")
    assert shown.error is None
    # A reset may take along what had arrived and was not read.
    assert shown.restarts <= min(1, count)
    for text in shown.ever:
        assert "".join(FIRST).startswith(text) or ANSWER.startswith(text), "at no moment a mixture"
    assert shown.usage is not None
    assert shown.usage.attempt_count == 2


async def test_after_the_last_token_but_before_the_end_nothing_is_called_complete() -> None:
    everything = HEAD + b"".join(piece(token) for token in FIRST)
    async with serve(says(everything)) as broken:
        settings = Settings(models={"a": ModelSettings(base_url=broken.url, max_attempts=2)})
        async with routing(
            settings,
            build_backends(settings.models),
            Unlimited(),
            Noted(),
            takes={"a": lambda prompt: True},
            most_output={"a": as_asked},
            random=lambda: 0.0,
        ) as router:
            shown = await watch(router, budget=Budget(20))
    assert shown.finish is None
    assert shown.error is not None
    assert (shown.error.attempts, shown.error.text_passed_on) == (2, True)
