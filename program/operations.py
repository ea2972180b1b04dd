"""The port for operators: `/metrics`, `/livez`, `/readyz`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from program.binding import split_address
from program.health import Health

HEALTH = web.AppKey("health", Health)
REGISTRY = web.AppKey("registry", CollectorRegistry)
_SHUTDOWN_SECONDS = 0.5
"""Not even a scrape under way may hold a stop back; half a second is plenty for one."""


def application(health: Health, registry: CollectorRegistry) -> web.Application:
    """The three paths, for a program that has a web server of its own."""
    app = web.Application()
    app[HEALTH] = health
    app[REGISTRY] = registry
    app.add_routes([web.get("/metrics", _metrics), web.get("/livez", _live), web.get("/readyz", _ready)])
    return app


@asynccontextmanager
async def serving(address: str, health: Health, registry: CollectorRegistry) -> AsyncIterator[int]:
    """Serves the three paths on a port of their own, and gives the port (for an address with port 0).

    Raises:
        OSError: if the address is taken.
    """
    host, port = split_address(address)
    runner = web.AppRunner(
        application(health, registry), access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _metrics(request: web.Request) -> web.Response:
    # Rendering two thousand series takes tens of milliseconds: off the loop, so that no stream stalls.
    body = await asyncio.to_thread(generate_latest, request.app[REGISTRY])
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


async def _live(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _ready(request: web.Request) -> web.Response:
    health = request.app[HEALTH]
    body = msgspec.json.encode({"ready": health.ready, "parts": health.parts})
    return web.Response(body=body, status=200 if health.ready else 503, content_type="application/json")
