"""Template cards of applications: what is refused, touched and changed (DOC 90236, 90241, 94888)."""

import time
from typing import Any

import pytest
from aiohttp import web
from wechatpy.enterprise import parse_message
from wechatpy.enterprise.crypto import WeChatCrypto

from adapter.crypto import Envelope
from adapter.wire import AppMessage, message_xml, passive_xml
from program.secret import Secret
from simulator.cards import CannotTouch
from simulator.clock import ManualClock
from simulator.rules import Rules
from simulator.settings import AppSettings

QUICK = Rules(callback_interval_seconds=0.02, callback_seconds=2)
NOTICE: dict[str, Any] = {
    "card_type": "text_notice",
    "main_title": {"title": "报销已通过"},
    "card_action": {"type": 1, "url": "https://example.com"},
}
BUTTONS: dict[str, Any] = {
    "card_type": "button_interaction",
    "main_title": {"title": "同意吗？"},
    "button_list": [{"text": "同意", "key": "yes"}, {"text": "拒绝", "key": "no"}],
    "task_id": "t1",
}
VOTE: dict[str, Any] = {
    "card_type": "vote_interaction",
    "main_title": {"title": "吃什么"},
    "checkbox": {"question_key": "dish", "mode": 1, "option_list": [{"id": n, "text": n} for n in "abc"]},
    "submit_button": {"text": "提交", "key": "submit"},
    "task_id": "t1",
}
MULTIPLE: dict[str, Any] = {
    "card_type": "multiple_interaction",
    "select_list": [{"question_key": "q", "option_list": [{"id": "1", "text": "一"}]}],
    "submit_button": {"text": "提交", "key": "submit"},
    "task_id": "t1",
}
NEWS: dict[str, Any] = {
    **NOTICE,
    "card_type": "news_notice",
    "card_image": {"url": "https://example.com/a.png", "aspect_ratio": 2.25},
}
ROW = {"keyname": "单号", "value": "1"}


def card_body(card: dict[str, Any], to: str = "lina", **more: Any) -> dict[str, Any]:
    return {"touser": to, "msgtype": "template_card", "agentid": 1000002, "template_card": card, **more}


@pytest.mark.parametrize("card", [NOTICE, NEWS, BUTTONS, VOTE, MULTIPLE])
async def test_every_kind_is_shown_and_gets_a_response_code(simulator, api, card):
    async with simulator() as sim:
        answer = await api(sim).post("message/send", card_body(card))
        assert answer["errcode"] == 0
        assert answer["response_code"]
        [bubble] = sim.replies("lina", "app")
        assert bubble.look == "card"
        assert bubble.content == {"kind": "card", "card": card, "replaced": ""}


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ({**NOTICE, "card_type": "hologram"}, 42031),
        ({**NOTICE, "card_action": {}}, 42045),
        ({**NOTICE, "card_action": {"type": 1, "url": "example.com"}}, 42028),
        ({**NOTICE, "card_action": {"type": 2}}, 42030),
        ({**NOTICE, "horizontal_content_list": [ROW] * 7}, 42035),
        ({**NOTICE, "horizontal_content_list": [{"value": "1"}]}, 42027),
        ({**NOTICE, "horizontal_content_list": [{**ROW, "type": 2}]}, 42029),
        ({**NOTICE, "horizontal_content_list": [{**ROW, "type": 3}]}, 42050),
        ({**NOTICE, "vertical_content_list": [{"title": "x"}] * 5}, 42036),
        ({**NOTICE, "jump_list": [{"type": 0, "title": "x"}] * 4}, 42042),
        ({**NOTICE, "action_menu": {"action_list": [{"text": "x", "key": "k"}]}}, 42014),
        ({**NEWS, "card_image": {"url": "a.png"}}, 42044),
        ({**NEWS, "card_image": {"url": "https://a/b", "aspect_ratio": 2.26}}, 40058),
        ({**BUTTONS, "task_id": "with space"}, 42014),
        ({**BUTTONS, "task_id": "x" * 129}, 42014),
        ({**BUTTONS, "button_list": [{"key": "k"}]}, 42038),
        ({**BUTTONS, "button_list": [{"text": "x", "key": "k" * 1025}]}, 42039),
        ({**BUTTONS, "button_list": [{"text": "x", "key": "k"}] * 2}, 42051),
        ({**BUTTONS, "button_list": [{"text": str(n), "key": str(n)} for n in range(7)]}, 40058),
        ({**VOTE, "checkbox": {**VOTE["checkbox"], "option_list": []}}, 42037),
        ({**VOTE, "checkbox": {**VOTE["checkbox"], "option_list": [{"text": "x"}]}}, 42040),
        ({**VOTE, "checkbox": {**VOTE["checkbox"], "option_list": [{"id": "x"}]}}, 42041),
        ({**VOTE, "checkbox": {"option_list": [{"id": "x", "text": "x"}]}}, 42043),
        ({**VOTE, "submit_button": {}}, 42046),
        ({**VOTE, "submit_button": {"text": "x"}}, 42049),
        ({**MULTIPLE, "select_list": MULTIPLE["select_list"] * 4}, 42047),
    ],
)
async def test_broken_cards_have_codes(simulator, api, card, code):
    async with simulator() as sim:
        assert (await api(sim).post("message/send", card_body(card)))["errcode"] == code
        assert sim.replies("lina", "app") == []


async def test_a_task_id_is_used_once(simulator, api):
    async with simulator() as sim:
        checked = card_body(BUTTONS, enable_duplicate_check=1)
        assert (await api(sim).post("message/send", checked))["errcode"] == 0
        assert (await api(sim).post("message/send", checked))["errcode"] == 0, "the same request is suppressed"
        assert (await api(sim).post("message/send", card_body(BUTTONS, "zhangwei")))["errcode"] == 42014
        assert len(sim.replies("lina", "app")) == 1


async def test_a_response_code_changes_a_card_once_within_72_hours(simulator, api):
    clock = ManualClock()
    second = AppSettings(agent_id=7, secret=Secret("other"))
    async with simulator(clock=clock, apps=(AppSettings(), second)) as sim:
        code = (await api(sim).post("message/send", card_body(BUTTONS, "lina|zhangwei")))["response_code"]
        update = {"userids": ["lina"], "agentid": 1000002, "response_code": code, "button": {"replace_name": "已处理"}}
        other = (await api(sim).token(secret="other"))["access_token"]
        assert (await api(sim).post("message/update_template_card", {**update, "agentid": 7}, other))[
            "errcode"
        ] == 42015
        bad = {**update, "button": {}}
        assert (await api(sim).post("message/update_template_card", bad))["errcode"] == 40058
        assert (await api(sim).post("message/update_template_card", update))["errcode"] == 0
        seen = {person: sim.replies(person, "app")[0].content["replaced"] for person in ("lina", "zhangwei")}
        assert seen == {"lina": "已处理", "zhangwei": ""}
        assert (await api(sim).post("message/update_template_card", update))["errcode"] == 40058

        late = (await api(sim).post("message/send", card_body({**BUTTONS, "task_id": "t2"})))["response_code"]
        clock.advance(72 * 3600 + 1)
        body = {"atall": 1, "agentid": 1000002, "response_code": late, "template_card": NOTICE}
        assert (await api(sim).post("message/update_template_card", body))["errcode"] == 40058


async def test_a_card_is_replaced_for_everybody(simulator, api):
    async with simulator() as sim:
        code = (await api(sim).post("message/send", card_body(BUTTONS, "@all")))["response_code"]
        new = {**NOTICE, "replace_text": "已结束"}
        body = {"atall": 1, "agentid": 1000002, "response_code": code, "template_card": new}
        assert (await api(sim).post("message/update_template_card", body))["errcode"] == 0
        for person in sim.corp.people:
            [bubble] = sim.replies(person, "app")
            assert bubble.content["card"]["card_type"] == "text_notice"
            assert (bubble.text, bubble.content["replaced"]) == ("报销已通过", "已结束")


def replying(sim, kind: str, **fields: str):
    """Answers a callback with an encrypted passive reply."""

    async def answer(_request):
        app, now = sim.settings.apps[0], str(int(time.time()))
        envelope = Envelope(app.token.reveal(), app.encoding_aes_key.reveal(), sim.settings.corp_id)
        named = {name.replace("__", "."): value for name, value in fields.items()}
        content = named.pop("Content", "")
        message = AppMessage(
            to_user="lina", from_user=sim.settings.corp_id, create_time=1, msg_type=kind, content=content, fields=named
        )
        return web.Response(body=passive_xml(envelope.seal(message_xml(message), now, "n1")))

    return answer


async def test_a_touched_card_is_reported_and_changed_by_the_answer(simulator, api, application):
    async with simulator(QUICK) as sim:
        application.answers = [replying(sim, "update_button", Button__ReplaceName="已同意")]
        sim.set_callback_url(application.url)
        await api(sim).post("message/send", card_body(BUTTONS))
        [bubble] = sim.replies("lina", "app")
        sim.touch_card("lina", bubble, "yes")
        await sim.wait_for(lambda: bubble.content["replaced"] == "已同意")
        app, query = sim.settings.apps[0], application.received[0].query
        crypto = WeChatCrypto(app.token.reveal(), app.encoding_aes_key.reveal(), sim.settings.corp_id)
        plain = crypto.decrypt_message(
            application.received[0].body, query["msg_signature"], query["timestamp"], query["nonce"]
        )
        event = parse_message(plain)._data
        assert (event["Event"], event["EventKey"], event["TaskId"]) == ("template_card_event", "yes", "t1")
        assert event["CardType"] == "button_interaction"
        assert event["ResponseCode"]
        with pytest.raises(CannotTouch):
            sim.touch_card("lina", bubble, "no")


async def test_a_selection_is_reported_with_its_questions(simulator, api, application):
    async with simulator(QUICK) as sim:
        sim.set_callback_url(application.url)
        await api(sim).post("message/send", card_body(VOTE))
        [bubble] = sim.replies("lina", "app")
        with pytest.raises(CannotTouch):
            sim.touch_card("lina", bubble, "submit", {"dish": ("z",)})
        sim.touch_card("lina", bubble, "", {"dish": ("a", "c")})
        await sim.wait_for(lambda: sim.counters["acknowledged"])
        app, callback = sim.settings.apps[0], application.received[0]
        crypto = WeChatCrypto(app.token.reveal(), app.encoding_aes_key.reveal(), sim.settings.corp_id)
        query = callback.query
        plain = crypto.decrypt_message(callback.body, query["msg_signature"], query["timestamp"], query["nonce"])
        item = parse_message(plain)._data["SelectedItems"]["SelectedItem"]
        assert (item["QuestionKey"], item["OptionIds"]["OptionId"]) == ("dish", ["a", "c"])


async def test_a_whole_card_can_be_the_answer(simulator, api, application):
    async with simulator(QUICK) as sim:
        new = {
            "TemplateCard__CardType": "text_notice",
            "TemplateCard__MainTitle__Title": "谢谢",
            "TemplateCard__CardAction__Type": "1",
            "TemplateCard__CardAction__Url": "https://example.com",
            "TemplateCard__ReplaceText": "已投票",
        }
        application.answers = [replying(sim, "update_template_card", **new)]
        sim.set_callback_url(application.url)
        await api(sim).post("message/send", card_body(VOTE))
        [bubble] = sim.replies("lina", "app")
        sim.touch_card("lina", bubble, "submit", {"dish": ("a",)})
        await sim.wait_for(lambda: bubble.content["replaced"] == "已投票")
        assert bubble.text == "谢谢"


async def test_passive_replies_of_other_kinds(simulator, application):
    async with simulator(QUICK) as sim:
        picture = sim.media.put("image", "a.png", b"\x89PNG\r\n\x1a\n" + bytes(20))
        articles = {"ArticleCount": "1", "Articles__item__Title": "公告", "Articles__item__Url": "https://example.com"}
        application.answers = [
            replying(sim, "image", Image__MediaId=picture),
            replying(sim, "news", **articles),
            replying(sim, "image", Image__MediaId="unknown"),
            replying(sim, "markdown", Content="**x**"),
            replying(sim, "update_button", Button__ReplaceName="x"),
        ]
        sim.set_callback_url(application.url)
        for number in range(5):
            await sim.write_to_app("lina", str(number))
            await sim.wait_for(lambda n=number: len(sim.acknowledged()) > n)
        image, news = sim.replies("lina", "app")
        assert (image.content["kind"], image.content["name"]) == ("image", "a.png")
        assert news.content == {
            "kind": "news",
            "articles": [{"title": "公告", "description": "", "picurl": "", "url": "https://example.com"}],
        }
        assert sim.counters["ignored"] == 3


async def test_events_that_take_no_message_in_answer(simulator, application):
    async with simulator(QUICK) as sim:
        application.answers = [replying(sim, "text", Content="您好"), replying(sim, "text", Content="您好")]
        sim.set_callback_url(application.url)
        sim.send_event("lina", "enter_agent")
        await sim.wait_for(lambda: sim.replies("lina", "app"))
        sim.send_event("lina", "pic_weixin")
        await sim.wait_for(lambda: sim.counters["ignored"])
        assert len(sim.replies("lina", "app")) == 1
