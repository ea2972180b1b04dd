"""A server with an OpenAI-style ``/embeddings`` on a port of its own, around the n-gram embedder."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.server.llm.ngram_embedder import ngram_vector


@dataclass
class EmbeddingServer:
    """What was asked, and what to answer instead of vectors."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    backwards: bool = False
    """Answers in another order than it was asked."""
    base64: bool = False
    """Answers so even when nobody asks for it."""
    refuses: str = ""
    """A text that is refused, and whatever comes together with it."""
    answer: web.Response | None = None

    async def embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization"))
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body, headers=self.answer.headers)
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if self.refuses and self.refuses in texts:
            error = {"message": "input is invalid", "type": "invalid_request_error", "code": None}
            return web.json_response({"error": error}, status=400)
        items = [self._item(index, text, body) for index, text in enumerate(texts)]
        if self.backwards:
            items.reverse()
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return web.json_response({"object": "list", "data": items, "model": body["model"], "usage": usage})

    def _item(self, index: int, text: str, body: dict[str, Any]) -> dict[str, Any]:
        vector = ngram_vector(text)[: body.get("dimensions")]
        packed = self.base64 or body.get("encoding_format") == "base64"
        numbers = base64.b64encode(vector.tobytes()).decode() if packed else vector.tolist()
        return {"object": "embedding", "index": index, "embedding": numbers}


@asynccontextmanager
async def embedding_server() -> AsyncIterator[EmbeddingServer]:
    server = EmbeddingServer()
    app = web.Application()
    app.router.add_post("/v1/embeddings", server.embeddings)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield server
    finally:
        await runner.cleanup()
