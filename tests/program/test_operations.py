import aiohttp
from prometheus_client import CollectorRegistry, Counter

from program.health import Health
from program.operations import serving


async def test_the_three_paths() -> None:
    health, registry = Health("store"), CollectorRegistry()
    Counter("asked", "How often.", registry=registry).inc()
    async with (
        serving("127.0.0.1:0", health, registry) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as web,
    ):
        async with web.get("/livez") as answer:
            assert (answer.status, await answer.text()) == (200, "ok\n")
        async with web.get("/readyz") as answer:
            assert (answer.status, await answer.json()) == (503, {"ready": False, "parts": {"store": False}})
        health.mark("store", ready=True)
        async with web.get("/readyz") as answer:
            assert (answer.status, await answer.json()) == (200, {"ready": True, "parts": {"store": True}})
        async with web.get("/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "asked_total 1.0" in await answer.text()
