"""Template cards: the limits of each door, buttons out of choices, and what a card says in words."""

import json
from typing import Any

import pytest

from adapter.cards import (
    DONE_KEY,
    card_text,
    checked,
    choices_card,
    choices_text,
    chosen_card,
    chosen_label,
    looks_spoken,
    said_by_click,
)
from weconverse.v1.conversation_pb2 import Choice, Turn

NOTICE: dict[str, Any] = {
    "card_type": "text_notice",
    "main_title": {"title": "报销"},
    "card_action": {"type": 1, "url": "https://example.com"},
}
NEWS: dict[str, Any] = {**NOTICE, "card_type": "news_notice", "card_image": {"url": "https://example.com/a.png"}}
BUTTONS: dict[str, Any] = {
    "card_type": "button_interaction",
    "button_list": [{"text": "同意", "key": "yes"}],
    "task_id": "t1",
}
OPTION = {"id": "1", "text": "一"}
SUBMIT = {"text": "提交", "key": "submit"}
VOTE: dict[str, Any] = {
    "card_type": "vote_interaction",
    "checkbox": {"question_key": "q", "option_list": [OPTION]},
    "submit_button": SUBMIT,
    "task_id": "t1",
}
MULTIPLE: dict[str, Any] = {
    "card_type": "multiple_interaction",
    "select_list": [{"question_key": "q", "option_list": [OPTION]}],
    "submit_button": SUBMIT,
    "task_id": "t1",
}
ROW = {"keyname": "单号"}


def encoded(card: Any) -> bytes:
    return json.dumps(card, ensure_ascii=False).encode()


def options(count: int) -> list[dict[str, str]]:
    return [{"id": str(number), "text": "x"} for number in range(count)]


@pytest.mark.parametrize("door", ["app", "bot"])
@pytest.mark.parametrize("card", [NOTICE, NEWS, BUTTONS, VOTE, MULTIPLE])
def test_every_kind_passes_whole(card: dict[str, Any], door: Any) -> None:
    unknown = {**card, "a_field_of_next_year": 1}
    assert checked(encoded(unknown), door) == unknown


@pytest.mark.parametrize(
    ("card", "field"),
    [
        ({}, "card:"),
        ({**NOTICE, "card_type": "hologram"}, "card.card_type:"),
        ({**NOTICE, "card_action": {}}, "card.card_action:"),
        ({**NOTICE, "card_action": {"type": 1}}, "card.card_action.url:"),
        ({**NOTICE, "card_action": {"type": 1, "url": "example.com"}}, "card.card_action.url:"),
        ({**NOTICE, "card_action": {"type": 2}}, "card.card_action.appid:"),
        ({**NOTICE, "main_title": {}}, "card.main_title:"),
        ({**NOTICE, "source": {"desc_color": 4}}, "card.source.desc_color:"),
        ({**NOTICE, "horizontal_content_list": [ROW] * 7}, "card.horizontal_content_list:"),
        ({**NOTICE, "horizontal_content_list": [{}]}, "card.horizontal_content_list[0]:"),
        ({**NOTICE, "horizontal_content_list": [ROW, {**ROW, "type": 3}]}, "card.horizontal_content_list[1].userid:"),
        ({**NOTICE, "vertical_content_list": [{}] * 5}, "card.vertical_content_list:"),
        ({**NOTICE, "jump_list": [{}] * 4}, "card.jump_list:"),
        ({**NOTICE, "quote_area": {"type": 2}}, "card.quote_area.appid:"),
        ({**NOTICE, "action_menu": {"action_list": [{"text": "x", "key": "k"}]}}, "card.task_id:"),
        ({**NOTICE, "task_id": "t", "action_menu": {"action_list": []}}, "card.action_menu.action_list:"),
        ({**NEWS, "card_image": None}, "card.card_image:"),
        ({**NEWS, "card_image": {"url": "https://a/b", "aspect_ratio": 1.2}}, "card.card_image.aspect_ratio:"),
        ({**BUTTONS, "task_id": ""}, "card.task_id:"),
        ({**BUTTONS, "task_id": "has space"}, "card.task_id:"),
        ({**BUTTONS, "task_id": "x" * 129}, "card.task_id:"),
        ({**BUTTONS, "button_list": []}, "card.button_list:"),
        ({**BUTTONS, "button_list": [{"text": "x", "key": str(n)} for n in range(7)]}, "card.button_list:"),
        ({**BUTTONS, "button_list": [{"text": "x", "key": "k"}] * 2}, "card.button_list:"),
        ({**BUTTONS, "button_list": [{"text": "x"}]}, "card.button_list[0].key:"),
        ({**BUTTONS, "button_list": [{"text": "x", "key": "字" * 342}]}, "card.button_list[0].key:"),
        ({**BUTTONS, "button_list": [{"text": "x", "key": "k", "style": 5}]}, "card.button_list[0].style:"),
        ({**VOTE, "submit_button": None}, "card.submit_button:"),
        ({**VOTE, "checkbox": None}, "card.checkbox:"),
        ({**VOTE, "checkbox": {"question_key": "q", "option_list": options(21)}}, "card.checkbox.option_list:"),
        ({**VOTE, "checkbox": {"question_key": "q", "option_list": [OPTION] * 2}}, "card.checkbox.option_list:"),
        (
            {**VOTE, "checkbox": {"question_key": "q", "option_list": [{"id": "字" * 43, "text": "x"}]}},
            "card.checkbox.option_list:",
        ),
        ({**MULTIPLE, "select_list": []}, "card.select_list:"),
        ({**MULTIPLE, "select_list": MULTIPLE["select_list"] * 4}, "card.select_list:"),
        (
            {**MULTIPLE, "select_list": [{"question_key": "q", "option_list": options(11)}]},
            "card.select_list[0].option_list:",
        ),
        ({**NOTICE, "sub_title_text": "x" * 70_000}, "card:"),
    ],
)
def test_what_breaks_a_limit_is_named(card: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=";") as refused:
        checked(encoded(card), "app")
    assert str(refused.value).startswith(field)


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b'{"a": 1', b"[" * 5000])
def test_what_is_no_json_object_is_no_card(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"^card: "):
        checked(raw, "app")


@pytest.mark.parametrize(
    ("card", "allowed"),
    [
        ({**NOTICE, "horizontal_content_list": [{**ROW, "type": 2, "media_id": "m"}]}, {"app", "robot"}),
        ({**NOTICE, "jump_list": [{"type": 3, "title": "问", "question": "怎么报销？"}]}, {"bot"}),
        ({**NOTICE, "jump_list": [{"type": 3, "title": "问", "question": "字" * 67}]}, set()),
        ({**NOTICE, "feedback": {"id": "f"}}, {"bot"}),
        ({**NOTICE, "feedback": {"id": "f" * 257}}, set()),
        ({**BUTTONS, "button_list": [{"text": "看", "type": 1, "url": "https://example.com"}]}, {"app"}),
        (BUTTONS, {"app", "bot"}),
        (NOTICE, {"app", "bot", "robot"}),
    ],
)
def test_doors_differ(card: dict[str, Any], allowed: set[str]) -> None:
    passed = set()
    for door in ("app", "bot", "robot"):
        try:
            checked(encoded(card), door)  # type: ignore[arg-type]  # the names are those of CardDoor
        except ValueError:
            continue
        passed.add(door)
    assert passed == allowed


def turn(*choices: tuple[str, str]) -> Turn:
    return Turn(name="conversations/c/turns/1", choices=[Choice(label=label, text=text) for label, text in choices])


def test_choices_become_buttons_whose_key_is_what_is_said() -> None:
    card = choices_card(turn(("退款", "我要退款"), ("查询订单的物流状态以及预计的送达时间和地点", "查物流")))
    assert card is not None
    assert [button["key"] for button in card["button_list"]] == ["我要退款", "查物流"]
    assert all(len(button["text"]) <= 20 for button in card["button_list"])
    for door in ("app", "bot"):
        assert checked(encoded(card), door) == card  # type: ignore[arg-type]  # as above
    assert card["task_id"] == (choices_card(turn(("a", "b"))) or {})["task_id"], "the turn names the card"


@pytest.mark.parametrize("texts", [[], [str(n) for n in range(7)], ["字" * 342]])
def test_choices_that_make_no_card(texts: list[str]) -> None:
    assert choices_card(turn(*((text, text) for text in texts))) is None


def test_choices_in_words() -> None:
    assert choices_text(turn(("退款", "我要退款"), ("换货", "换货"))) == "您可以直接回复：\n• 我要退款（退款）\n• 换货"
    assert choices_text(turn()) == ""


def test_what_a_touch_says_and_shows() -> None:
    assert said_by_click("我要退款") == "我要退款"
    assert said_by_click("submit", [("城市", ("北京", "上海")), ("备注", ())]) == "城市：北京、上海"
    assert said_by_click("同意请假", [("代理人", ("王芳",))]) == "同意请假\n代理人：王芳"
    assert said_by_click(DONE_KEY) == ""
    assert chosen_label("我要退款") == "已选择：我要退款"
    assert chosen_label("approve_42") == "已提交"
    assert chosen_label("城市：北京\n日期：周一") == "已提交"
    assert checked(encoded(chosen_card("t1", "我要退款")), "bot")["button_list"][0]["key"] == DONE_KEY


@pytest.mark.parametrize(
    ("key", "spoken"),
    [("我要请假", True), ("how are you", True), ("help?", True), ("V1001_TODAY", False), ("approve?id=4", False)],
)
def test_keys_that_read_like_words(key: str, *, spoken: bool) -> None:
    assert looks_spoken(key) is spoken


def test_a_card_in_words_says_everything_that_can_be_read() -> None:
    card = {
        "source": {"desc": "财务"},
        "main_title": {"title": "报销已通过", "desc": "请查收"},
        "emphasis_content": {"title": "¥100", "desc": "金额"},
        "sub_title_text": "预计三天到账",
        "horizontal_content_list": [
            {"keyname": "单号", "value": "42"},
            {"keyname": "附件", "value": "查看", "url": "u"},
        ],
        "vertical_content_list": [{"title": "说明", "desc": "差旅"}],
        "quote_area": {"title": "原因", "quote_text": "出差"},
        "button_list": [{"text": "同意"}],
        "checkbox": {"title": "满意吗", "option_list": [{"text": "满意"}]},
        "jump_list": [{"title": "详情", "url": "https://example.com/d"}],
        "card_action": {"url": "https://example.com"},
    }
    assert card_text(card).split("\n") == [
        "〔财务〕",
        "【报销已通过】",
        "请查收",
        "¥100 金额",
        "预计三天到账",
        "说明：差旅",
        "单号：42",
        "附件：查看",
        "u",
        "> 原因：出差",
        "满意吗：",
        "• 满意",
        "• 同意",
        "详情：https://example.com/d",
        "https://example.com",
    ]
    assert card_text({}) == "[卡片]"
    assert card_text({"main_title": 5, "button_list": "x", "jump_list": [3]}) == "[卡片]"
