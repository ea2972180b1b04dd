"""A bot on the long connection that waits for every acknowledgement before its next frame, whoever that is for.

Everything else costs it nothing: its answers grow by themselves at the pace of the mock
model, and each has a frame ready whenever the line is free.
"""

import argparse
import asyncio
import time
from collections.abc import Mapping

import aiohttp
import msgspec

from bench import bot_platform, place, upstream


class Bot:
    """Answers every question, one frame at a time for all of them."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, gap: float) -> None:
        self._ws = ws
        self._gap = gap
        self._turn = asyncio.Lock()
        self._acks: dict[str, asyncio.Future[None]] = {}

    async def run(self) -> None:
        """Serves until the connection ends."""
        await self._request("s", "aibot_subscribe", {"bot_id": bot_platform.BOT_ID, "secret": bot_platform.SECRET})
        async with asyncio.TaskGroup() as answers:
            async for message in self._ws:
                frame = msgspec.json.decode(message.data)
                req_id = frame["headers"]["req_id"]
                if "cmd" in frame:
                    answers.create_task(self._answer(req_id, frame["body"]["text"]["content"]))
                elif waiting := self._acks.pop(req_id, None):
                    waiting.set_result(None)

    async def _answer(self, req_id: str, question: str) -> None:
        tokens = list(upstream.reply_tokens(question, 1, bot_platform.TOKENS))
        began, shown = time.monotonic(), 0
        while shown < len(tokens):
            async with self._turn:
                ready = min(len(tokens), 1 + int((time.monotonic() - began) / self._gap))
                if ready > shown:
                    shown = ready
                    stream = {"id": req_id, "finish": shown == len(tokens), "content": "".join(tokens[:shown])}
                    body = {"msgtype": "stream", "stream": stream}
                    await self._acknowledged(req_id, "aibot_respond_msg", body)
            await asyncio.sleep(self._gap)

    async def _acknowledged(self, req_id: str, cmd: str, body: Mapping[str, object]) -> None:
        waiting = self._acks[req_id] = asyncio.get_running_loop().create_future()
        await self._send(req_id, cmd, body)
        await waiting

    async def _request(self, req_id: str, cmd: str, body: Mapping[str, object]) -> None:
        await self._send(req_id, cmd, body)
        await self._ws.receive()

    async def _send(self, req_id: str, cmd: str, body: Mapping[str, object]) -> None:
        await self._ws.send_str(msgspec.json.encode({"cmd": cmd, "headers": {"req_id": req_id}, "body": body}).decode())


async def _serve(platform: str, gap: float) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://{platform}/openws") as ws:
        running = asyncio.create_task(Bot(ws, gap).run())
        await place.announce_and_wait({})
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platform", required=True)
    parser.add_argument("--gap", type=float, required=True, help="seconds between two tokens")
    options = parser.parse_args()
    place.run(_serve(options.platform, options.gap), fast_loop=False)


if __name__ == "__main__":
    main()
