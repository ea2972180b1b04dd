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
    import aibot.api
    import aibot.ws


class Silent:
    def debug(self, *_):
        """Says nothing."""

    info = warn = error = debug


@pytest.fixture
def sdk(certificate):
    """Starts a simulator with TLS, and SDK clients that record what they see."""
    for context in (aibot.ws._SSL_CONTEXT, aibot.api._SSL_CONTEXT):
        context.load_verify_locations(cadata=certificate.pem)
    tls = TlsSettings(certificate_file=certificate.certificate_file, key_file=certificate.key_file)
    return Settings(listen=ListenSettings(address="127.0.0.1:0", tls=tls), rules=Rules(streams_with_card=True))


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
        "message.image",
        "message.file",
        "message.mixed",
        "event.enter_chat",
        "event.template_card_event",
        "event.feedback_event",
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


CARD = {
    "card_type": "button_interaction",
    "main_title": {"title": "请选择"},
    "button_list": [{"text": "人工", "style": 1, "key": "转人工"}],
    "task_id": "task-1",
}


async def test_cards_and_their_updates(sdk):
    async with Simulator(sdk) as sim, client(sim) as (bot, seen):
        await expect(seen, "authenticated")
        await sim.write_to_bot("lina", "卡片")
        _, frame = await expect(seen, "message.text")
        assert (await bot.reply_template_card(frame, CARD, {"id": "rate-card"}))["errcode"] == 0
        (bubble,) = sim.replies("lina", "bot")
        assert (bubble.content["card"]["task_id"], bubble.feedback_id) == ("task-1", "rate-card")
        sim.touch_bot_card("lina", bubble, "转人工")
        _, event = await expect(seen, "event.template_card_event")
        assert event["body"]["event"]["template_card_event"]["event_key"] == "转人工"
        changed = {**CARD, "main_title": {"title": "已选择"}}
        assert (await bot.update_template_card(event, changed))["errcode"] == 0
        assert bubble.text == "已选择"
        await bot.send_message("lina", {"msgtype": "template_card", "template_card": {**CARD, "task_id": "task-2"}})
        assert [bubble.look for bubble in sim.replies("lina", "bot")] == ["card", "card"]


async def test_a_welcome_can_be_a_card(sdk):
    async with Simulator(sdk) as sim, client(sim) as (bot, seen):
        await expect(seen, "authenticated")
        sim.enter("lina", "bot")
        _, frame = await expect(seen, "event.enter_chat")
        await bot.reply_welcome(frame, {"msgtype": "template_card", "template_card": CARD})
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["请选择"]


async def test_a_stream_with_a_card_and_a_rating(sdk):
    async with Simulator(sdk) as sim, client(sim) as (bot, seen):
        await expect(seen, "authenticated")
        await sim.write_to_bot("lina", "流式卡片")
        _, frame = await expect(seen, "message.text")
        first = {"template_card": CARD, "stream_feedback": {"id": "rate-me"}}
        await bot.reply_stream_with_card(frame, "s", "一", False, **first)
        await bot.reply_stream_with_card(frame, "s", "一二", True)
        stream, card = sim.replies("lina", "bot")
        assert (stream.text, stream.finished, stream.feedback_id, card.look) == ("一二", True, "rate-me", "card")
        sim.rate("lina", stream, 2, (3,), "不对")
        _, event = await expect(seen, "event.feedback_event")
        assert event["body"]["event"]["feedback_event"] == {
            "id": "rate-me", "type": 2, "content": "不对", "inaccurate_reason_list": [3]}  # fmt: skip


async def test_files_are_fetched_and_decrypted(sdk):
    picture, text = b"\x89PNG\r\n\x1a\n" + bytes(1000), "内容".encode()
    async with Simulator(sdk) as sim, client(sim) as (bot, seen):
        await expect(seen, "authenticated")
        sim.send_media_to_bot("lina", ("image", "a.png", picture))
        _, frame = await expect(seen, "message.image")
        image = frame["body"]["image"]
        assert (await bot.download_file(image["url"], image["aeskey"]))[0] == picture
        sim.send_media_to_bot("lina", ("file", "报告 一.txt", text))
        _, frame = await expect(seen, "message.file")
        file = frame["body"]["file"]
        data, name = await bot.download_file(file["url"], file["aeskey"])
        assert data == text
        assert name in ("报告 一.txt", "报告+一.txt"), "it does not read form-encoded names"
        sim.send_media_to_bot("lina", "看", ("image", "a.png", picture))
        _, frame = await expect(seen, "message.mixed")
        image = frame["body"]["mixed"]["msg_item"][1]["image"]
        assert (await bot.download_file(image["url"], image["aeskey"]))[0] == picture
