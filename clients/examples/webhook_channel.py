"""A whole channel in about 70 lines: people write by HTTP, replies come back to a callback address.

    python webhook_channel.py http://127.0.0.1:9000/replies
    curl -d '{"id": "1", "thread": "t", "text": "你好"}' http://127.0.0.1:8081/messages

202 means owed: the reply will come, also when this program dies now. A callback may
come twice, with the same ``Idempotency-Key``; take the second one as a repetition.
"""

import asyncio
import hashlib
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
from aiohttp import web

from weconverse import ChannelSession, ConversationClient, Delivery, InvalidRequest, WeConverseError, text_of

ACCOUNT = "channels/webhook/accounts/main"


def digest(text: str) -> str:
    """An identifier that fits into a name, and that tells nothing about a person."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class WebhookChannel:
    """Takes messages, hands over their replies."""

    def __init__(self, target: str, callback: str) -> None:
        self.target, self.callback = target, callback

    async def take(self, request: web.Request) -> web.Response:
        """Owes an answer to ``{"id": ..., "thread": ..., "text": ...}``."""
        try:
            message = await request.json()
            text, identity, thread = (str(message[key]) for key in ("text", "id", "thread"))
            conversation, request_id, address = f"webhook.{digest(thread)}", digest(identity), thread.encode()
            turn = await self.client.submit(
                conversation, text, request_id=request_id, account=ACCOUNT, address=address, timeout=3.5
            )
        except (ValueError, KeyError, TypeError, InvalidRequest):
            raise web.HTTPBadRequest(text="id, thread and text are expected") from None
        except WeConverseError as error:
            raise web.HTTPServiceUnavailable(text=error.reason) from None
        return web.json_response({"turn": turn.name}, status=202)

    async def deliver(self, session: ChannelSession, delivery: Delivery) -> None:
        """Hands over one reply, and reports how it went."""
        reply = {"thread": delivery.address.decode(), "text": text_of(delivery.ended_turn.reply)}
        key = {"Idempotency-Key": delivery.turn}
        try:
            async with self.http.post(self.callback, json=reply, headers=key) as answer:
                if answer.status < 300:
                    return await session.delivered(delivery)
                if answer.status == 410:
                    return await session.undeliverable(delivery, "HTTP 410")
                detail = f"HTTP {answer.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            detail = type(error).__name__
        return await session.retry(delivery, min(60, 2**delivery.attempt), detail=detail)

    async def hold_lease(self) -> None:
        """Delivers what is owed, and attaches again when the lease is lost."""
        while True:
            try:
                lease = self.client.attach(ACCOUNT, socket.gethostname()[:64], ended_only=True)
                async with lease as session, asyncio.TaskGroup() as deliveries:
                    async for message in session:
                        if isinstance(message, Delivery):
                            deliveries.create_task(self.deliver(session, message))
            except* WeConverseError as lost:
                print("the lease is lost:", *lost.exceptions)
            await asyncio.sleep(1)

    async def run(self, app: web.Application) -> AsyncIterator[None]:
        """Holds the lease while the application runs."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with ConversationClient(self.target) as self.client, aiohttp.ClientSession(timeout=timeout) as self.http:
            lease = asyncio.create_task(self.hold_lease())
            yield
            lease.cancel()
            with suppress(asyncio.CancelledError):
                await lease


def make_app(target: str, callback: str) -> web.Application:
    """The HTTP application, with the lease beside it."""
    channel, app = WebhookChannel(target, callback), web.Application(client_max_size=64 * 1024)
    app.cleanup_ctx.append(channel.run)
    app.router.add_post("/messages", channel.take)
    return app


if __name__ == "__main__":
    web.run_app(make_app("127.0.0.1:50051", sys.argv[1]), host="127.0.0.1", port=8081)
