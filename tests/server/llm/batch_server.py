"""A server with chats, chat batches and prompt arrays, in vLLM's shapes; echoes questions."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


class BatchServer:
    """What it was asked, and how it shall behave."""

    def __init__(self) -> None:
        self.url = ""
        self.chats: list[dict[str, Any]] = []
        self.batches: list[dict[str, Any]] = []
        self.arrays: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.offers_batches = True
        self.cut_stream_after: int | None = None
        self.cancelled = 0

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request, self.chats)
        question = body["messages"][-1]["content"]
        if "bad" in question:
            return refused()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(event({"index": 0, "delta": {"content": f"re: {question}"}, "finish_reason": "stop"}))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def batch(self, request: web.Request) -> web.StreamResponse:
        if not self.offers_batches:
            return web.json_response({"detail": "Not Found"}, status=404)
        body = await self._body(request, self.batches)
        if any("bad" in conversation[-1]["content"] for conversation in body["messages"]):
            return refused()
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": f"re: {conversation[-1]['content']}"},
                "finish_reason": "stop",
            }
            for index, conversation in enumerate(body["messages"])
        ]
        # The order is nobody's promise.
        return web.json_response({"choices": choices[::-1], "usage": {"prompt_tokens": 90, "completion_tokens": 30}})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request, self.arrays)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for index, prompt in enumerate(body["prompt"]):
            if index == self.cut_stream_after:
                assert request.transport is not None
                request.transport.close()
                return response
            question = prompt.rsplit("<|im_start|>user\n", 1)[1].split("<|im_end|>")[0]
            await response.write(event({"index": index, "text": f"re: {question}", "finish_reason": "stop"}))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _body(self, request: web.Request, asked: list[dict[str, Any]]) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        asked.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return body


def event(choice: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


def refused() -> web.Response:
    error = {"message": "this model's maximum context length is 512 tokens", "type": "BadRequestError", "code": 400}
    return web.json_response({"error": error}, status=400)


@asynccontextmanager
async def serve() -> AsyncIterator[BatchServer]:
    server = BatchServer()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_post("/v1/chat/completions/batch", server.batch)
    app.router.add_post("/v1/completions", server.completions)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        server.gate.set()
        await runner.cleanup()
