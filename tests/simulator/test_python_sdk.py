"""The official Python SDK as a client of the long connection.

It insists on TLS, so the simulator gets a certificate, and its trust store learns of it.
"""

import asyncio
import warnings
from contextlib import asynccontextmanager

import pytest

from simulator.app import Simulator
from simulator.rules import Rules
from simulator.settings import ListenSettings, Settings, TlsSettings

with warnings.catch_warnings():
    # It imports a name that websockets has deprecated; that is not ours to mend.
    warnings.simplefilter("ignore", DeprecationWarning)
    import aibot
    import aibot.ws


class Silent:
    def debug(self, *_):
        """Says nothing."""

    info = warn = error = debug


@pytest.fixture
def sdk(certificate):
    """Starts a simulator with TLS, and SDK clients that record what they see."""
    aibot.ws._SSL_CONTEXT.load_verify_locations(cadata=certificate.pem)
    tls = TlsSettings(certificate_file=certificate.certificate_file, key_file=certificate.key_file)
    return Settings(listen=ListenSettings(address="127.0.0.1:0", tls=tls), rules=Rules())


@asynccontextmanager
async def client(sim, secret=None, attempts=1):
    bot = sim.settings.bots[0]
    options = aibot.WSClientOptions(
        bot_id=bot.id,
        secret=secret or bot.secret.reveal(),
        ws_url=sim.socket_base,
        logger=Silent(),
        reconnect_interval=20,
        max_reconnect_attempts=attempts,
    )
    made = aibot.WSClient(options)
    seen: asyncio.Queue = asyncio.Queue()
    for event in (
        "authenticated",
        "disconnected",
        "error",
        "message.text",
        "event.enter_chat",
        "event.disconnected_event",
    ):
        made.on(event, lambda *args, name=event: seen.put_nowait((name, *args)))
    try:
        await made.connect()
        yield made, seen
    finally:
        made.disconnect()
        # The SDK closes its socket in a task of its own.
        async with asyncio.timeout(5):
            while made._ws_manager._ws is not None:
                await asyncio.sleep(0.01)


async def expect(seen, name):
    async with asyncio.timeout(5):
        while (found := await seen.get())[0] != name:
            pass
    return found


async def test_streamed_reply(sdk):
    async with Simulator(sdk) as sim, client(sim) as (bot, seen):
        await expect(seen, "authenticated")
        msg_id = await sim.write_to_bot("lina", "你好")
        _, frame = await expect(seen, "message.text")
        assert frame["body"]["text"]["content"] == "你好"
        for text, finish in (("您", False), ("您好", False), ("您好!", True)):
            assert (await bot.reply_stream(frame, "stream-1", text, finish))["errcode"] == 0
        (bubble,) = sim.replies("lina", "bot")
        assert (bubble.text, bubble.finished, bubble.answers, bubble.sent) == ("您好!", True, msg_id, 3)
        await bot.send_message("lina", {"msgtype": "markdown", "markdown": {"content": "**主动**"}})
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["您好!", "**主动**"]
        with pytest.raises(RuntimeError, match="93006"):
            await bot.send_message("wangfang", {"msgtype": "markdown", "markdown": {"content": "x"}})


async def test_welcome(sdk):
    async with Simulator(sdk) as sim, client(sim) as (bot, seen):
        await expect(seen, "authenticated")
        sim.enter("lina", "bot")
        _, frame = await expect(seen, "event.enter_chat")
        await bot.reply_welcome(frame, {"msgtype": "text", "text": {"content": "欢迎"}})
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["欢迎"]


async def test_a_second_client_kicks_the_first(sdk):
    async with Simulator(sdk) as sim, client(sim, attempts=0) as (old, first):
        await expect(first, "authenticated")
        async with client(sim) as (_, second):
            await expect(second, "authenticated")
            await expect(first, "event.disconnected_event")
            # A clean close is not announced by this SDK; its connection state tells.
            async with asyncio.timeout(5):
                while old._ws_manager.is_connected:
                    await asyncio.sleep(0.01)
            await sim.write_to_bot("lina", "谁在")
            await expect(second, "message.text")


async def test_wrong_secret(sdk):
    async with Simulator(sdk) as sim, client(sim, secret="wrong", attempts=0) as (_, seen):
        _, error = await expect(seen, "error")
        assert "853000" in str(error)
        assert not sim.connected()


async def test_it_comes_back_after_a_cut(sdk):
    async with Simulator(sdk) as sim, client(sim, attempts=3) as (bot, seen):
        await expect(seen, "authenticated")
        await sim.write_to_bot("lina", "在吗")
        _, before = await expect(seen, "message.text")
        sim.cut()
        await expect(seen, "authenticated")
        _, again = await expect(seen, "message.text")
        assert again["body"]["msgid"] == before["body"]["msgid"]
        await bot.reply_stream(again, "s", "在", True)
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["在"]
