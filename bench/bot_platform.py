"""A fake long connection of WeCom, and a referee: ``python -m bench.bot_platform``.

It keeps a number of people talking to one bot: as soon as somebody's answer is complete,
the next question follows. Every frame is acknowledged after 50 ms, and checked: the
content of a bubble grows, belongs to its question, and is whole when it is finished.
``GET /begin?people=N`` starts, ``GET /stats`` gives the counts.
"""

import argparse
import asyncio
import itertools
import time
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from bench import place, upstream

ACK_SECONDS = 0.05
TOKENS = 64
BOT_ID, SECRET = "aibBench0001", "bench-bot-secret"
_PLACEHOLDER = "思考中…"


class Stats(msgspec.Struct):
    """What arrived so far."""

    frames: int = 0
    """Stream frames that were acknowledged."""
    growing: int = 0
    """People whose present answer has begun to grow."""
    finished: int = 0
    wrong: int = 0
    """Frames that are not a beginning of the right answer, or not longer than the one before."""
    why: str = ""
    """The first of these."""


class _Question(msgspec.Struct):
    person: str
    mark: str
    stream_id: str = ""
    shown: str = ""


class Platform:
    """One bot's connection, whoever holds it."""

    def __init__(self) -> None:
        self.stats = Stats()
        self._ws: web.WebSocketResponse | None = None
        self._open: dict[str, _Question] = {}
        self._numbers = itertools.count(time.time_ns())
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Serves a connection to its end; the last one counts."""
        ws = web.WebSocketResponse(max_msg_size=4 << 20, timeout=1.0)
        await ws.prepare(request)
        self._ws = ws
        async for message in ws:
            if message.type == WSMsgType.TEXT:
                self._hear(msgspec.json.decode(message.data, type=dict[str, Any]))
        return ws

    async def begin(self, request: web.Request) -> web.Response:
        """Lets so many people ask."""
        for number in range(int(request.query["people"])):
            self._ask(f"u{next(self._numbers):x}n{number}")
        return web.json_response({})

    async def tell(self, _request: web.Request) -> web.Response:
        """What arrived so far."""
        return web.Response(body=msgspec.json.encode(self.stats))

    def _ask(self, person: str) -> None:
        req_id = f"q{next(self._numbers):x}"
        question = _Question(person, upstream.mark(req_id))
        self._open[req_id] = question
        body = {
            "msgid": f"m{req_id}",
            "aibotid": BOT_ID,
            "chattype": "single",
            "from": {"userid": person},
            "msgtype": "text",
            "text": {"content": f"{question.mark}请问出差的报销流程是什么?"},
        }
        self._later(0.0, {"cmd": "aibot_msg_callback", "headers": {"req_id": req_id}, "body": body})

    def _later(self, seconds: float, frame: dict[str, Any]) -> None:
        asyncio.get_running_loop().call_later(seconds, self._send, msgspec.json.encode(frame).decode())

    def _send(self, text: str) -> None:
        if self._ws is not None and not self._ws.closed:
            task = asyncio.ensure_future(self._ws.send_str(text))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _hear(self, frame: dict[str, Any]) -> None:
        req_id = frame["headers"]["req_id"]
        ack = {"headers": {"req_id": req_id}, "errcode": 0, "errmsg": "ok"}
        if frame["cmd"] != "aibot_respond_msg":
            self._later(0.0, ack)
            return
        self._later(ACK_SECONDS, ack)
        self.stats.frames += 1
        self._check(req_id, frame["body"]["stream"])

    def _check(self, req_id: str, stream: dict[str, Any]) -> None:
        question = self._open.get(req_id)
        if question is None:
            self._wrong(f"a frame for {req_id}, which is answered")
            return
        content, before = stream["content"], question.shown
        if content == _PLACEHOLDER and not before:
            return
        begins = content.startswith(question.mark) and content.startswith(before)
        if not begins or (question.stream_id not in ("", stream["id"])):
            self._wrong(f"{content[:60]!r} after {before[:60]!r}")
        self.stats.growing += not before
        question.stream_id, question.shown = stream["id"], content
        if stream["finish"]:
            if not any(content == upstream.reply_text(question.mark, count, TOKENS) for count in range(1, 40)):
                self._wrong(f"the end is {content[-60:]!r}")
            self.stats.finished += 1
            self.stats.growing -= 1
            del self._open[req_id]
            asyncio.get_running_loop().call_later(ACK_SECONDS, self._ask, question.person)

    def _wrong(self, why: str) -> None:
        self.stats.wrong += 1
        self.stats.why = self.stats.why or why


async def _serve() -> None:
    platform = Platform()
    application = web.Application()
    application.add_routes(
        [
            web.get("/openws", platform.connect),
            web.get("/begin", platform.begin),
            web.get("/stats", platform.tell),
        ]
    )
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await place.announce_and_wait({"http": runner.addresses[0][1]})
    await runner.cleanup()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    place.run(_serve())


if __name__ == "__main__":
    main()
