"""The long connection, frame by frame (DOC 101463), with a client that only sends and receives."""

import asyncio

import pytest

from simulator.clock import ManualClock
from simulator.corp import NobodyThere
from simulator.faults import Faults, Switch
from simulator.rules import Rules


async def question(sim, bot, text="在吗", person="lina", **where):
    """Writes to the bot and returns the req_id under which it arrives."""
    await sim.write_to_bot(person, text, **where)
    frame = await bot.receive()
    assert frame["cmd"] == "aibot_msg_callback"
    return frame["headers"]["req_id"]


async def test_subscribing(simulator, connect):
    async with simulator() as sim:
        bot = await connect(sim)
        assert (await bot.call("ping"))["errcode"] == 0
        assert await bot.push("lina", "早") == 846609
        assert (await bot.subscribe(secret="wrong"))["errcode"] == 853000
        assert (await bot.call("aibot_subscribe", {"bot_id": "ghost", "secret": "x"}))["errcode"] == 853000
        assert not sim.connected()
        assert (await bot.subscribe())["errcode"] == 0
        assert sim.connected()


async def test_subscribing_too_often(simulator, connect):
    async with simulator(Rules(subscribes_per_minute=2), clock=ManualClock()) as sim:
        bot = await connect(sim)
        assert [(await bot.subscribe())["errcode"] for _ in range(3)] == [0, 0, 45009]


async def test_what_a_message_looks_like(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        msg_id = await sim.write_to_bot("lina", "在吗")
        body = (await bot.receive())["body"]
        assert body["msgid"] == msg_id
        assert body["aibotid"] == sim.settings.bots[0].id
        assert (body["chattype"], body["from"], body["text"]) == ("single", {"userid": "lina"}, {"content": "在吗"})
        assert "chatid" not in body
        await sim.write_to_bot("lina", "总结一下", group="group")
        body = (await bot.receive())["body"]
        assert (body["chattype"], body["chatid"]) == ("group", sim.settings.groups[0].id)
        assert body["text"]["content"] == "@小助手 总结一下"


async def test_groups_hear_the_bot_only_when_it_is_mentioned(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        sim.write_in_group("lina", "大家好")
        sim.write_in_group("wangfang", "请 @小助手 记录")
        frame = await bot.receive()
        assert frame["body"]["text"]["content"] == "请 @小助手 记录"
        assert await bot.stream(frame["headers"]["req_id"], "s", "记下了", True) == 0
        texts = [bubble.text for bubble in sim.bubbles("chenjie", "group")]
        assert texts == ["大家好", "请 @小助手 记录", "记下了"], "everybody sees the same"
        with pytest.raises(NobodyThere):
            sim.write_in_group("ghost", "在吗")


async def test_whole_text_so_far(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        assert await bot.stream(req_id, "s1", "一") == 0
        (bubble,) = sim.replies("lina", "bot")
        assert (bubble.text, bubble.finished) == ("一", False)
        assert await bot.stream(req_id, "s1", "一二") == 0
        assert await bot.stream(req_id, "s1", "一二三", True) == 0
        assert (bubble.text, bubble.finished, bubble.sent, bubble.stream_id) == ("一二三", True, 3, "s1")
        assert bubble.answers == sim.written("bot")[0]
        assert sim.replies("lina", "bot") == [bubble]


@pytest.mark.parametrize(("rule", "code"), [("ignore", 0), ("refuse", 846608)])
async def test_after_the_end(simulator, subscribed, rule, code):
    async with simulator(Rules(write_after_finish=rule)) as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        assert await bot.stream(req_id, "s1", "完", True) == 0
        assert await bot.stream(req_id, "s1", "还有", True) == code
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["完"]


@pytest.mark.parametrize("invisible", ["", "  \n", "\u200b\u200d", "\x00\x1f", "\ufeff\u2060", "\u3164"])
async def test_invisible_content_leaves_the_spinner(simulator, subscribed, invisible):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        assert await bot.stream(req_id, "s1", "正在想") == 0
        assert await bot.stream(req_id, "s1", invisible, True) == 0
        (bubble,) = sim.replies("lina", "bot")
        assert (bubble.text, bubble.finished) == ("正在想", False)
        assert sim.counters["ignored"] == 1


@pytest.mark.parametrize(
    ("content", "text", "thoughts"),
    [
        ("<think>先想</think>再说", "再说", "先想"),
        ("<think>还在想", "", "还在想"),
        ("标签是 <\u200bthink>", "标签是 <\u200bthink>", ""),
        ("前<think>中</think>后", "前后", "中"),
    ],
)
async def test_thoughts_are_folded(simulator, subscribed, content, text, thoughts):
    async with simulator() as sim:
        bot = await subscribed(sim)
        assert await bot.stream(await question(sim, bot), "s1", content, True) == 0
        (bubble,) = sim.replies("lina", "bot")
        assert (bubble.text, bubble.thoughts) == (text, thoughts)


@pytest.mark.parametrize(
    ("content", "code"), [("a" * 20480, 0), ("a" * 20481, 45002), ("字" * 6826 + "ab", 0), ("字" * 6827, 45002)]
)
async def test_stream_bytes(simulator, subscribed, content, code):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        assert await bot.stream(req_id, "s1", "短") == 0
        assert await bot.stream(req_id, "s1", content, True) == code
        (bubble,) = sim.replies("lina", "bot")
        assert bubble.finished is (code == 0), "refused as a whole: the spinner goes on"
        assert bubble.text == (content if code == 0 else "短")


@pytest.mark.parametrize("seconds", [360.0, 600.0])
async def test_stream_window(simulator, subscribed, seconds):
    clock = ManualClock()
    rules = Rules(stream_seconds=seconds, socket_silence_seconds=10_000)
    async with simulator(rules, clock=clock) as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        clock.advance(100)
        assert await bot.stream(req_id, "s1", "一") == 0
        clock.advance(seconds / 2)
        assert await bot.stream(req_id, "s1", "一二") == 0
        clock.advance(seconds / 2)
        assert await bot.stream(req_id, "s1", "一二三") == 0, "counted from the first frame, the last instant included"
        clock.advance(0.5)
        assert await bot.stream(req_id, "s1", "一二三四", True) == 846608
        (bubble,) = sim.replies("lina", "bot")
        assert (bubble.text, bubble.expired) == ("一二三", True)
        assert await bot.stream(req_id, "s2", "新的气泡", True) == 0, (
            "the window belongs to the stream, not to the req_id"
        )
        assert await bot.push("lina", "主动发送") == 0
        assert [b.text for b in sim.replies("lina", "bot")] == ["一二三", "新的气泡", "主动发送"]


async def test_streams_expire_without_another_frame(simulator, subscribed):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        bot = await subscribed(sim)
        await bot.stream(await question(sim, bot), "s1", "一")
        clock.advance(601)
        await sim.wait_for(lambda: sim.counters["expired"])
        assert sim.replies("lina", "bot")[0].expired


@pytest.mark.parametrize(
    ("stream", "code"),
    [({"id": ""}, 40058), ({"id": 7}, 40058), ({"finish": "yes"}, 40058), ({"content": None}, 40058)],
)
async def test_malformed_streams(simulator, subscribed, stream, code):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        body = {"msgtype": "stream", "stream": {"id": "s", "finish": True, "content": "x"} | stream}
        assert (await bot.call("aibot_respond_msg", body, req_id))["errcode"] == code
        assert sim.replies("lina", "bot") == []


async def test_who_may_be_answered(simulator, subscribed):
    clock = ManualClock()
    async with simulator(Rules(socket_silence_seconds=10**6), clock=clock) as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        assert await bot.stream("made-up", "s0", "x", True) == 846605
        sim.enter("lina", "bot")
        event = (await bot.receive())["headers"]["req_id"]
        assert await bot.stream(event, "s0", "x", True) == 846605, "a stream cannot answer an event"
        assert (await bot.call("aibot_respond_msg", {"msgtype": "text", "text": {"content": "x"}}, req_id))[
            "errcode"
        ] == 40008
        assert (await bot.call("aibot_fly", {}, req_id))["errcode"] == 40058
        clock.advance(86399)
        assert await bot.stream(req_id, "s1", "一天之内", True) == 0
        clock.advance(1)
        assert await bot.stream(req_id, "s2", "太晚", True) == 846605


async def test_welcome_once_a_day_within_five_seconds(simulator, subscribed):
    clock = ManualClock()
    welcome = {"msgtype": "text", "text": {"content": "欢迎"}}
    async with simulator(Rules(socket_silence_seconds=10**6), clock=clock) as sim:
        bot = await subscribed(sim)
        sim.enter("lina", "bot")
        frame = await bot.receive()
        assert frame["cmd"] == "aibot_event_callback"
        assert frame["body"]["event"] == {"eventtype": "enter_chat"}
        clock.advance(4.9)
        req_id = frame["headers"]["req_id"]
        assert (await bot.call("aibot_respond_welcome_msg", welcome, req_id))["errcode"] == 0
        assert (await bot.call("aibot_respond_welcome_msg", welcome, req_id))["errcode"] == 846605
        sim.enter("lina", "bot")
        assert (await bot.call("ping"))["errcode"] == 0, "no second event came before this ack"
        clock.advance(86400)
        sim.enter("lina", "bot")
        late = (await bot.receive())["headers"]["req_id"]
        clock.advance(5)
        assert (await bot.call("aibot_respond_welcome_msg", welcome, late))["errcode"] == 846605
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["欢迎"]


async def test_pushing(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        group = sim.settings.groups[0].id
        assert await bot.push("lina", "早") == 93006, "never wrote"
        await question(sim, bot, group="group")
        assert await bot.push("lina", "早") == 93006, "writing in a group is not writing to the bot"
        assert await bot.push(group, "大家早", chat_type=2) == 0
        await question(sim, bot)
        assert await bot.push("lina", "**早**", chat_type=1) == 0
        assert await bot.push("Lina", "早") == 93006, "case counts here"
        assert await bot.push("lina", "早", chat_type=2) == 93006
        assert await bot.push("lina", "a" * 20481) == 45002
        assert await bot.push("lina", " \u200b") == 44004
        text = {"chatid": "lina", "msgtype": "text", "text": {"content": "x"}}
        assert (await bot.call("aibot_send_msg", text))["errcode"] == 40008
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["**早**"]


@pytest.mark.parametrize("each_counts", [False, True])
async def test_thirty_a_minute(simulator, subscribed, each_counts):
    clock = ManualClock()
    async with simulator(Rules(refreshes_count=each_counts), clock=clock) as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        refreshes = [await bot.stream(req_id, "s1", "字" * (n + 1)) for n in range(40)]
        assert refreshes == ([0] * 30 + [45009] * 10 if each_counts else [0] * 40)
        if not each_counts:
            pushes = [await bot.push("lina", "x") for _ in range(30)]
            assert pushes == [0] * 29 + [45009]
        clock.advance(60)
        assert await bot.push("lina", "y") == 0


async def test_one_connection_a_bot(simulator, subscribed):
    async with simulator() as sim:
        first = await subscribed(sim)
        second = await subscribed(sim)
        farewell = await first.receive()
        assert farewell["cmd"] == "aibot_event_callback"
        assert farewell["body"]["event"]["eventtype"] == "disconnected_event"
        assert await first.ended()
        await question(sim, second)
        assert sim.connected()


async def test_unreplied_messages_come_again_after_a_reconnect(simulator, connect, subscribed):
    async with simulator() as sim:
        waiting = await sim.write_to_bot("lina", "还没有人在线")
        bot = await subscribed(sim)
        first = await bot.receive()
        assert first["body"]["msgid"] == waiting
        second = await question(sim, bot, "第二条")
        third = await question(sim, bot, "第三条")
        assert await bot.stream(second, "s2", "回复二") == 0
        await bot.ws.close()
        await sim.wait_for(lambda: not sim.connected())
        bot = await connect(sim)
        await bot.subscribe()
        again = [await bot.receive() for _ in range(2)]
        assert [frame["body"]["text"]["content"] for frame in again] == ["还没有人在线", "第三条"]
        assert again[0]["headers"]["req_id"] == first["headers"]["req_id"]
        assert await bot.stream(second, "s2", "回复二,完", True) == 0, "a req_id outlives its connection"
        assert await bot.stream(third, "s3", "回复三", True) == 0
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["回复二,完", "回复三"]


async def test_redelivery_under_a_new_req_id(simulator, subscribed):
    async with simulator(Rules(redelivery_keeps_req_id=False)) as sim:
        bot = await subscribed(sim)
        old = await question(sim, bot)
        sim.kick()
        assert await bot.ended()
        bot = await subscribed(sim)
        new = (await bot.receive())["headers"]["req_id"]
        assert new != old
        assert await bot.stream(old, "s1", "都可以") == 0
        assert await bot.stream(new, "s1", "都可以回", True) == 0
        assert len(sim.replies("lina", "bot")) == 1
        await bot.ws.close()
        await sim.wait_for(lambda: not sim.connected())
        bot = await subscribed(sim)
        assert (await bot.call("ping"))["errcode"] == 0, "nothing is open any more"


async def test_without_redelivery(simulator, subscribed):
    async with simulator(Rules(redelivers=False)) as sim:
        bot = await subscribed(sim)
        await question(sim, bot)
        await bot.ws.close()
        await sim.wait_for(lambda: not sim.connected())
        bot = await subscribed(sim)
        assert (await bot.call("ping"))["errcode"] == 0


async def test_open_messages_of_one_person(simulator, subscribed):
    async with simulator(Rules(open_messages=2)) as sim:
        bot = await subscribed(sim)
        req_ids = [await question(sim, bot, str(n)) for n in range(2)]
        await sim.write_to_bot("lina", "第三条")
        assert (await bot.call("ping"))["errcode"] == 0, "the third waits"
        assert await bot.stream(req_ids[0], "s", "好", True) == 0
        assert (await bot.receive())["body"]["text"]["content"] == "第三条"


async def test_silent_sockets_are_dropped(simulator, subscribed):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        bot = await subscribed(sim)
        for _ in range(3):
            clock.advance(60)
            assert (await bot.call("ping"))["errcode"] == 0
        clock.advance(89)
        await asyncio.sleep(0)
        assert sim.connected()
        clock.advance(1)
        await sim.wait_for(lambda: not sim.connected())


async def test_broken_frames(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        await bot.ws.send_str("{nonsense")
        assert (await bot.receive())["errcode"] == 47001
        await bot.ws.send_bytes(b'{"cmd":"ping","headers":{"req_id":"as-bytes"}}')
        assert (await bot.receive())["headers"]["req_id"] == "as-bytes"
        await bot.ws.send_str('{"cmd":"pong","headers":{"req_id":"p"}}')
        assert (await bot.call("ping"))["errcode"] == 0


async def test_response_url(simulator, subscribed, session):
    async with simulator() as sim:
        bot = await subscribed(sim)
        await sim.write_to_bot("lina", "在吗")
        url = (await bot.receive())["body"]["response_url"]
        for expected in (0, 40058):
            async with session.post(url, json={"msgtype": "markdown", "markdown": {"content": "在"}}) as answer:
                assert (await answer.json())["errcode"] == expected, "it works once"
        assert [bubble.text for bubble in sim.replies("lina", "bot")] == ["在"]


# --- faults ---


@pytest.mark.parametrize(("fault", "code"), [("conflict", 6000), ("socket_limited", 45009), ("stream_expired", 846608)])
async def test_refusing_faults(simulator, subscribed, fault, code):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        sim.faults.once(fault)
        assert await bot.stream(req_id, "s1", "一") == code
        assert sim.replies("lina", "bot") == []
        assert await bot.stream(req_id, "s1", "一", True) == 0


async def test_stream_expired_at_will(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        assert await bot.stream(req_id, "s1", "一") == 0
        sim.faults.once("stream_expired")
        assert await bot.stream(req_id, "s1", "一二") == 846608
        assert await bot.stream(req_id, "s1", "一二", True) == 846608, "it stays expired"
        assert sim.replies("lina", "bot")[0].expired


async def test_lost_and_late_acks(simulator, subscribed):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        sim.faults.once("ack_lost")
        body = {"msgtype": "stream", "stream": {"id": "s1", "finish": False, "content": "一"}}
        await bot.send("aibot_respond_msg", body, req_id)
        await sim.wait_for(lambda: sim.replies("lina", "bot"))
        sim.faults.once("ack_late", seconds=6)
        await bot.send("aibot_respond_msg", body, req_id)
        assert (await bot.call("ping"))["errcode"] == 0, "the ping overtakes both acks"
        clock.advance(6)
        assert (await bot.receive())["headers"]["req_id"] == req_id
        assert sim.replies("lina", "bot")[0].sent == 2


async def test_lost_frames(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        sim.faults.once("frame_lost")
        await bot.send("aibot_respond_msg", {"msgtype": "markdown", "markdown": {"content": "x"}}, req_id)
        assert (await bot.call("ping"))["errcode"] == 0
        assert sim.replies("lina", "bot") == []
        sim.faults.once("push_lost")
        await sim.write_to_bot("lina", "丢了")
        assert (await bot.call("ping"))["errcode"] == 0
        sim.cut()
        assert await bot.ended()
        bot = await subscribed(sim)
        assert [(await bot.receive())["body"]["text"]["content"] for _ in range(2)] == ["在吗", "丢了"]


async def test_duplicated_reordered_and_dirty_pushes(simulator, subscribed):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        bot = await subscribed(sim)
        sim.faults.once("push_duplicated")
        msg_id = await sim.write_to_bot("lina", "两次")
        assert [(await bot.receive())["body"]["msgid"] for _ in range(2)] == [msg_id] * 2
        sim.faults.once("push_reordered", seconds=2)
        await sim.write_to_bot("lina", "先")
        await sim.write_to_bot("lina", "后")
        assert (await bot.receive())["body"]["text"]["content"] == "后"
        clock.advance(2)
        assert (await bot.receive())["body"]["text"]["content"] == "先"
        sim.faults.once("control_characters")
        await sim.write_to_bot("lina", "脏")
        raw = (await bot.ws.receive(timeout=5)).data
        assert "\x01" in raw
        sim.faults.once("server_ping")
        await sim.write_to_bot("lina", "心跳")
        ping = await bot.receive()
        assert ping["cmd"] == "ping"


async def test_subscription_lost_while_the_socket_stays(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        sim.faults.once("subscription_lost")
        assert await bot.stream(req_id, "s1", "一") == 846609
        assert (await bot.call("ping"))["errcode"] == 0
        await sim.write_to_bot("lina", "没人收到")
        assert await bot.stream(req_id, "s1", "一") == 846609
        await bot.send("aibot_subscribe", _credentials(sim))
        frames = [await bot.receive() for _ in range(3)]
        assert frames[0]["errcode"] == 0
        assert [frame["body"]["text"]["content"] for frame in frames[1:]] == ["在吗", "没人收到"]


def _credentials(sim):
    return {"bot_id": sim.settings.bots[0].id, "secret": sim.settings.bots[0].secret.reveal()}


async def test_half_a_kick(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        sim.kick(half=True)
        assert (await bot.receive())["body"]["event"]["eventtype"] == "disconnected_event"
        assert (await bot.call("ping"))["errcode"] == 0
        assert not sim.connected()
        assert await bot.push("lina", "x") == 846609


@pytest.mark.parametrize(("fault", "shown"), [("socket_cut", 0), ("socket_cut_after", 1), ("kick", 0)])
async def test_ends_of_a_connection(simulator, subscribed, fault, shown):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        sim.faults.once(fault)
        body = {"msgtype": "stream", "stream": {"id": "s1", "finish": True, "content": "好"}}
        await bot.send("aibot_respond_msg", body, req_id)
        assert await bot.ended()
        assert len(sim.replies("lina", "bot")) == shown
        bot = await subscribed(sim)
        if not shown:
            assert (await bot.receive())["headers"]["req_id"] == req_id
        assert await bot.stream(req_id, "s1", "好", True) == 0
        (bubble,) = sim.replies("lina", "bot")
        assert bubble.text == "好", "the same stream id cannot make a second bubble"


async def test_silence(simulator, subscribed):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        bot = await subscribed(sim)
        sim.silence(10)
        await bot.send("ping")
        await sim.write_to_bot("lina", "听得到吗")
        with pytest.raises(TimeoutError):
            await bot.ws.receive(timeout=0.1)
        assert sim.connected()
        clock.advance(10)
        assert (await bot.call("ping"))["errcode"] == 0, "what was lost stays lost until a reconnect"


async def test_half_a_kick_and_silence_as_switches(simulator, subscribed):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        sim.faults.once("silence", seconds=5)
        body = {"msgtype": "stream", "stream": {"id": "s1", "finish": False, "content": "一"}}
        await bot.send("aibot_respond_msg", body, req_id)
        await sim.wait_for(lambda: sim.counters["fault.silence"])
        assert sim.replies("lina", "bot") == [], "neither taken nor acknowledged"
        clock.advance(5)
        assert await bot.stream(req_id, "s1", "一") == 0
        sim.faults.once("kick_half")
        await bot.send("aibot_respond_msg", body, req_id)
        assert (await bot.receive())["body"]["event"]["eventtype"] == "disconnected_event"
        assert (await bot.receive())["errcode"] == 846609
        assert (await bot.call("ping"))["errcode"] == 0


async def test_probability_is_seeded():
    def draws(seed):
        faults = Faults({"ack_lost": Switch(probability=0.5)}, seed=seed)
        return [faults.strike("ack_lost") is not None for _ in range(200)]

    assert draws(1) == draws(1) != draws(2)
    assert 60 < sum(draws(1)) < 140
