"""Cards and ratings of bots over the long connection, and what people quote (DOC 101027, 101031, 100719)."""

import pytest

from simulator.cards import CannotTouch
from simulator.clock import ManualClock
from simulator.corp import NobodyThere
from simulator.rules import Rules

CARD = {
    "card_type": "button_interaction",
    "main_title": {"title": "请选择"},
    "button_list": [{"text": "查余额", "style": 1, "key": "查询余额"}, {"text": "人工", "style": 1, "key": "转人工"}],
    "task_id": "task-1",
}
VOTE = {
    "card_type": "vote_interaction",
    "main_title": {"title": "去哪里"},
    "checkbox": {
        "question_key": "城市",
        "mode": 1,
        "option_list": [{"id": "北京", "text": "北京"}, {"id": "上海", "text": "上海"}],
    },
    "submit_button": {"text": "提交", "key": "submit"},
    "task_id": "task-2",
}


def done(card, text="已提交"):
    return {**card, "main_title": {"title": text}}


async def question(sim, bot, text="在吗", person="lina", **where):
    await sim.write_to_bot(person, text, **where)
    return (await bot.receive())["headers"]["req_id"]


def answer(card, *, kind="template_card"):
    return {"msgtype": kind, "template_card": card}


async def shown_card(sim, bot, card=CARD, **where):
    """A card under a question; the bubble."""
    req_id = await question(sim, bot, **where)
    assert (await bot.call("aibot_respond_msg", answer(card), req_id))["errcode"] == 0
    return sim.replies("lina", "group" if where else "bot")[-1]


def updating(card, **more):
    return {"response_type": "update_template_card", "template_card": card, **more}


@pytest.mark.parametrize("flat", [False, True])
async def test_a_touch_is_an_event_and_its_answer_takes_the_cards_place(simulator, subscribed, flat):
    async with simulator(Rules(card_events_flat=flat)) as sim:
        bot = await subscribed(sim)
        bubble = await shown_card(sim, bot)
        assert (bubble.look, bubble.content["card"], bubble.content["replaced"]) == ("card", CARD, "")
        sim.touch_bot_card("lina", bubble, "转人工")
        frame = await bot.receive()
        assert frame["cmd"] == "aibot_event_callback"
        event = frame["body"]["event"]
        fields = event if flat else event["template_card_event"]
        assert (event["eventtype"], fields["event_key"], fields["task_id"], fields["card_type"]) == (
            "template_card_event", "转人工", "task-1", "button_interaction")  # fmt: skip
        req_id = frame["headers"]["req_id"]
        assert await bot.stream(req_id, "s", "x", True) == 846605, "an event takes no stream"
        for wrong, code in (
            (updating(done({**CARD, "task_id": "other"})), 42014),
            (updating(CARD, userids=["lina"]), 40058),
            ({"template_card": CARD}, 40058),
            (updating({**CARD, "button_list": []}), 40058),
        ):
            assert (await bot.call("aibot_respond_update_msg", wrong, req_id))["errcode"] == code
        assert (await bot.call("aibot_respond_update_msg", updating(done(CARD)), req_id))["errcode"] == 0
        assert (bubble.text, bubble.content["replaced"]) == ("已提交", "已提交")
        assert (await bot.call("aibot_respond_update_msg", updating(done(CARD)), req_id))["errcode"] == 846605
        with pytest.raises(CannotTouch):
            sim.touch_bot_card("lina", bubble, "查询余额")


async def test_what_was_selected_comes_with_its_question(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        bubble = await shown_card(sim, bot, VOTE)
        sim.touch_bot_card("lina", bubble, "", {"城市": ("北京", "上海")})
        detail = (await bot.receive())["body"]["event"]["template_card_event"]
        assert detail["event_key"] == "submit"
        assert detail["selected_items"] == {
            "selected_item": [{"question_key": "城市", "option_ids": {"option_id": ["北京", "上海"]}}]
        }
        with pytest.raises(CannotTouch):
            sim.touch_bot_card("lina", bubble, "", {"城市": ("广州",)})


async def test_a_card_is_updated_within_five_seconds(simulator, subscribed):
    clock = ManualClock()
    async with simulator(clock=clock) as sim:
        bot = await subscribed(sim)
        sim.touch_bot_card("lina", await shown_card(sim, bot), "转人工")
        req_id = (await bot.receive())["headers"]["req_id"]
        clock.advance(5)
        assert (await bot.call("aibot_respond_update_msg", updating(CARD), req_id))["errcode"] == 846605


async def test_in_a_group_a_card_changes_for_who_touched_it(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        bubble = await shown_card(sim, bot, group="group")
        sim.touch_bot_card("wangfang", bubble, "转人工")
        frame = await bot.receive()
        assert frame["body"]["chatid"] == sim.settings.groups[0].id
        body = updating(done(CARD), userids=["wangfang"])
        assert (await bot.call("aibot_respond_update_msg", body, frame["headers"]["req_id"]))["errcode"] == 0
        assert bubble.content["card"] == CARD, "the others see the old one"
        assert bubble.content["by"]["wangfang"]["replaced"] == "已提交"
        sim.touch_bot_card("lina", bubble, "查询余额")
        with pytest.raises(CannotTouch):
            sim.touch_bot_card("wangfang", bubble, "查询余额")


@pytest.mark.parametrize(("rule", "code"), [(False, 40008), (True, 0)])
async def test_a_stream_with_a_card_is_a_matter_of_reading(simulator, subscribed, rule, code):
    async with simulator(Rules(streams_with_card=rule)) as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        for content, finish in (("一", False), ("一二", True)):
            body = answer(CARD, kind="stream_with_template_card") | {
                "stream": {"id": "s", "finish": finish, "content": content}
            }
            assert (await bot.call("aibot_respond_msg", body, req_id))["errcode"] == code
        assert [(b.look, b.text) for b in sim.replies("lina", "bot")] == (
            [("stream", "一二"), ("card", "请选择")] if rule else []
        ), "the card comes once"


async def test_refused_cards(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        bad = answer({**CARD, "task_id": "a b"})
        assert (await bot.call("aibot_respond_msg", bad, req_id))["errcode"] == 42014
        sim.faults.once("card_refused")
        assert (await bot.call("aibot_respond_msg", answer(CARD), req_id))["errcode"] == 42045
        push = answer(CARD) | {"chatid": "lina"}
        assert (await bot.call("aibot_send_msg", push))["errcode"] == 0
        welcome = await _entered(sim, bot)
        assert (await bot.call("aibot_respond_welcome_msg", answer(CARD), welcome))["errcode"] == 0
        assert [b.content["card"] for b in sim.replies("lina", "bot")] == [CARD, CARD]


async def _entered(sim, bot):
    sim.enter("lina", "bot")
    return (await bot.receive())["headers"]["req_id"]


async def test_a_reply_that_asks_for_it_can_be_rated(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        req_id = await question(sim, bot)
        stream = {"id": "s", "finish": True, "content": "答", "feedback": {"id": "turn-1"}}
        body = {"msgtype": "stream", "stream": stream}
        assert (await bot.call("aibot_respond_msg", body, req_id))["errcode"] == 0
        (bubble,) = sim.replies("lina", "bot")
        assert bubble.feedback_id == "turn-1"
        sim.rate("lina", bubble, 2, (1, 3), "说反了")
        sim.rate("lina", bubble, 3)
        first, second = [(await bot.receive())["body"]["event"]["feedback_event"] for _ in range(2)]
        assert first == {"id": "turn-1", "type": 2, "content": "说反了", "inaccurate_reason_list": [1, 3]}
        assert second == {"id": "turn-1", "type": 3}
        silent = await question(sim, bot)
        await bot.stream(silent, "t", "无", True)
        with pytest.raises(NobodyThere):
            sim.rate("lina", sim.replies("lina", "bot")[-1], 1)
        stream["feedback"] = {"id": "字" * 86}
        assert (await bot.call("aibot_respond_msg", body | {"stream": {**stream, "id": "u"}}, silent))[
            "errcode"
        ] == 40058


async def test_people_quote_what_they_see(simulator, subscribed):
    async with simulator() as sim:
        bot = await subscribed(sim)
        await bot.stream(await question(sim, bot), "s", "答案", True)
        sim.quote_to_bot("lina", "什么意思", sim.replies("lina", "bot")[-1])
        body = (await bot.receive())["body"]
        assert (body["text"], body["quote"]) == (
            {"content": "什么意思"},
            {"msgtype": "text", "text": {"content": "答案"}},
        )
        picture = ("image", "a.png", b"\x89PNG\r\n\x1a\n" + b"0" * 20)
        sim.send_media_to_bot("lina", "看", picture)
        sent = (await bot.receive())["body"]["mixed"]["msg_item"]
        sim.quote_to_bot("lina", "再看", sim.bubbles("lina", "bot")[-1])
        quote = (await bot.receive())["body"]["quote"]
        assert [item["msgtype"] for item in quote["mixed"]["msg_item"]] == ["text", "image"]
        assert quote["mixed"]["msg_item"][1]["image"]["url"] != sent[1]["image"]["url"], "signed anew"
        for kind, name, data in (("file", "a.txt", b"123456"), ("video", "a.mp4", b"0000ftyp00")):
            sim.send_media_to_bot("lina", (kind, name, data))
            await bot.receive()
            sim.quote_to_bot("lina", "?", sim.bubbles("lina", "bot")[-1])
            quote = (await bot.receive())["body"]["quote"]
            assert quote["msgtype"] == kind
            assert set(quote[kind]) == {"url", "aeskey"}
