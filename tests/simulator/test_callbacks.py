"""Callbacks as DOC 90238 has them, read by an implementation that nobody here wrote."""

import asyncio
import time

import pytest
import xmltodict
from aiohttp import web
from wechatpy.enterprise import parse_message
from wechatpy.enterprise.crypto import WeChatCrypto

from adapter.crypto import Envelope
from adapter.wire import AppMessage, message_xml, passive_xml
from simulator.clock import ManualClock
from simulator.corp import NobodyThere
from simulator.faults import Faults, Switch
from simulator.journal import Kind
from simulator.rules import Rules

QUICK = Rules(callback_interval_seconds=0.02, callback_seconds=2)


def crypto(sim) -> WeChatCrypto:
    app = sim.settings.apps[0]
    return WeChatCrypto(app.token.reveal(), app.encoding_aes_key.reveal(), sim.settings.corp_id)


def opened(sim, callback):
    query = callback.query
    return crypto(sim).decrypt_message(callback.body, query["msg_signature"], query["timestamp"], query["nonce"])


def status(code: int):
    async def answer(_request):
        return web.Response(status=code)

    return answer


async def test_wechatpy_reads_a_text(simulator, application):
    async with simulator(QUICK) as sim:
        sim.set_callback_url(application.url)
        msg_id = await sim.write_to_app("lina", "你好 <&]]> 🙂")
        await sim.wait_for(sim.acknowledged)
        message = parse_message(opened(sim, application.received[0]))
        assert (message.type, message.content, message.source) == ("text", "你好 <&]]> 🙂", "lina")
        assert str(message.id) == msg_id
        assert message.agent == 1000002
        assert int(msg_id) < 2**63
        outer = xmltodict.parse(application.received[0].body)["xml"]
        assert outer["ToUserName"] == sim.settings.corp_id
        assert outer["AgentID"] == "1000002"


async def test_other_kinds_and_events(simulator, application):
    async with simulator(QUICK) as sim:
        sim.set_callback_url(application.url)
        sim.send_to_app(
            "lina", "location", {"Location_X": "22.5", "Location_Y": "113.9", "Scale": "15", "Label": "深圳"}
        )
        await sim.wait_for(sim.acknowledged)
        sim.send_event("lina", "enter_agent")
        await sim.wait_for(lambda: len(application.received) == 2)
        location, event = (parse_message(opened(sim, callback)) for callback in application.received)
        assert location.type == "location"
        assert location.label == "深圳"
        assert event.type == "event"
        assert event.event == "enter_agent"


async def test_three_deliveries_each_sealed_anew(simulator, application):
    application.answers = [status(500), status(302), status(503)]
    async with simulator(QUICK) as sim:
        sim.set_callback_url(application.url)
        msg_id = await sim.write_to_app("lina", "在吗")
        await sim.wait_for(lambda: sim.counters["given_up"])
        assert len(application.received) == 3
        assert len({callback.query["nonce"] for callback in application.received}) == 3
        assert len({callback.body for callback in application.received}) == 3
        assert len({opened(sim, callback) for callback in application.received}) == 1
        assert sim.acknowledged() == []
        assert sim.journal.message_ids(Kind.GIVEN_UP) == [msg_id]


async def test_second_delivery_counts(simulator, application):
    application.answers = [status(500)]
    async with simulator(QUICK) as sim:
        sim.set_callback_url(application.url)
        msg_id = await sim.write_to_app("lina", "在吗")
        assert await sim.wait_for(sim.acknowledged) == [msg_id]
        assert len(application.received) == 2
        assert sim.counters["failed"] == 1


async def test_five_seconds_and_the_schedule_by_the_clock(simulator, application):
    clock = ManualClock()
    held = asyncio.Event()

    async def hang(_request):
        await held.wait()
        return web.Response()

    application.answers = [hang, hang, hang]
    async with simulator(clock=clock) as sim:
        sim.set_callback_url(application.url)
        await sim.write_to_app("lina", "在吗")
        for delivery in range(1, 4):
            await _until(lambda n=delivery: len(application.received) == n)
            clock.advance(4.99)
            await asyncio.sleep(0)
            assert sim.counters["failed"] == delivery - 1
            clock.advance(0.011)
            await sim.wait_for(lambda n=delivery: sim.counters["failed"] == n)
        await sim.wait_for(lambda: sim.counters["given_up"] == 1)
        held.set()


async def _until(predicate):
    async with asyncio.timeout(5):
        while not predicate():
            await asyncio.sleep(0.005)


async def test_callbacks_run_side_by_side(simulator, application):
    both = asyncio.Barrier(2)

    async def meet(_request):
        await both.wait()
        return web.Response()

    application.answers = [meet, meet]
    async with simulator(QUICK) as sim:
        sim.set_callback_url(application.url)
        await sim.write_to_app("lina", "一")
        await sim.write_to_app("lina", "二")
        await sim.wait_for(lambda: len(sim.acknowledged()) == 2)


async def test_nobody_listens(simulator, unused_tcp_port):
    async with simulator(QUICK) as sim:
        sim.set_callback_url(f"http://127.0.0.1:{unused_tcp_port}/callback")
        await sim.write_to_app("lina", "在吗")
        await sim.wait_for(lambda: sim.counters["given_up"])


async def test_passive_reply_is_shown_and_cut(simulator, application):
    async with simulator(QUICK) as sim:
        app = sim.settings.apps[0]
        envelope = Envelope(app.token.reveal(), app.encoding_aes_key.reveal(), sim.settings.corp_id)

        def reply(text):
            async def answer(_request):
                corp = sim.settings.corp_id
                inner = message_xml(AppMessage(to_user="lina", from_user=corp, msg_type="text", content=text))
                return web.Response(body=passive_xml(envelope.seal(inner, str(int(time.time())), "n1")))

            return answer

        async def success(_request):
            return web.Response(text="success")

        async def nonsense(_request):
            return web.Response(text="<html>hello</html>")

        application.answers = [reply("好的"), reply("字" * 683), success, nonsense]
        sim.set_callback_url(application.url)
        for number in range(4):
            msg_id = await sim.write_to_app("lina", str(number))
            await sim.wait_for(lambda n=number: len(sim.acknowledged()) > n)
            if number < 2:
                assert sim.replies("lina", "app")[-1].answers == msg_id
        first, second = sim.replies("lina", "app")
        assert (first.text, first.lost_bytes) == ("好的", 0)
        assert (second.text, second.lost_bytes) == ("字" * 682, 3)
        assert sim.counters["ignored"] == 1


@pytest.mark.parametrize(
    ("tamper", "passes"),
    [(lambda plain: plain, True), (lambda plain: plain + "\n", False), (lambda plain: f'"{plain}"', False)],
)
async def test_saving_checks_the_address(simulator, application, tamper, passes):
    async with simulator(QUICK) as sim:

        async def echo(request):
            query = request.query
            plain = crypto(sim).check_signature(
                query["msg_signature"], query["timestamp"], query["nonce"], query["echostr"]
            )
            return web.Response(text=tamper(plain.decode() if isinstance(plain, bytes) else plain))

        application.answers = [echo]
        outcome = await sim.save_callback_url(application.url)
        assert outcome.passed is passes
        assert sim.callbacks.urls[1000002] == (application.url if passes else "")


async def test_saving_waits_one_second(simulator, application):
    clock = ManualClock()

    async def late(_request):
        clock.advance(1.0)
        await asyncio.sleep(60)
        return web.Response()

    application.answers = [late]
    async with simulator(clock=clock) as sim:
        assert not (await sim.save_callback_url(application.url)).passed


async def test_lost_delivery_and_lost_answer(simulator, application):
    faults = Faults()
    faults.once("callback_lost")
    faults.once("callback_answer_lost")
    async with simulator(QUICK, faults=faults) as sim:
        sim.set_callback_url(application.url)
        msg_id = await sim.write_to_app("lina", "在吗")
        await sim.wait_for(sim.acknowledged)
        assert sim.acknowledged() == [msg_id]
        assert len(application.received) == 2, "the first was lost, the second unseen, the third counted"
        assert sim.counters["failed"] == 2


async def test_duplicated_delivery(simulator, application):
    faults = Faults({"callback_duplicated": Switch(count=1)})
    async with simulator(QUICK, faults=faults) as sim:
        sim.set_callback_url(application.url)
        await sim.write_to_app("lina", "在吗")
        await sim.wait_for(sim.acknowledged)
        await _until(lambda: len(application.received) == 2)
        assert len(sim.acknowledged()) == 1


async def test_reordered_delivery(simulator, application):
    clock = ManualClock()
    faults = Faults({"callback_reordered": Switch(count=1, seconds=3)})
    async with simulator(faults=faults, clock=clock) as sim:
        sim.set_callback_url(application.url)
        first = await sim.write_to_app("lina", "先")
        await sim.wait_for(lambda: sim.counters["fault"])
        second = await sim.write_to_app("lina", "后")
        await sim.wait_for(sim.acknowledged)
        clock.advance(3)
        await sim.wait_for(lambda: len(sim.acknowledged()) == 2)
        assert sim.acknowledged() == [second, first]


async def test_slow_body_arrives_whole(simulator, application):
    faults = Faults({"callback_slow": Switch(count=1, seconds=0.01)})
    async with simulator(QUICK, faults=faults) as sim:
        sim.set_callback_url(application.url)
        await sim.write_to_app("lina", "慢慢来")
        await sim.wait_for(sim.acknowledged)
        assert "慢慢来" in opened(sim, application.received[0])


async def test_strangers_cannot_write(simulator):
    async with simulator() as sim:
        with pytest.raises(NobodyThere):
            await sim.write_to_app("nobody", "在吗")
        with pytest.raises(NobodyThere):
            await sim.write_to_app("lina", "在吗", app=7)
