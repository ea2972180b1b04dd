"""What touching something in an application means, and what of WeCom's own telling means nothing."""

from typing import Any

import pytest

from adapter.application.translate import from_app_event
from adapter.translate import Chosen, Greeting, Incoming, Silence
from adapter.wire import AppMessage, message_xml, parse_message

MENU = {"LEAVE": "我想请假", "ASSET": "查询这个资产"}


def event(name: str, key: str = "", **fields: str) -> AppMessage:
    """An event as it comes through the wire: sealed fields and all."""
    message = AppMessage(
        to_user="ww1",
        from_user="ZhangSan",
        create_time=1767226010,
        msg_type="event",
        agent_id="2",
        event=name,
        event_key=key,
        fields={path.replace("__", "."): value for path, value in fields.items()},
    )
    return parse_message(message_xml(message))


def meaning(message: AppMessage, **changed: Any) -> Incoming | Greeting | Chosen | Silence:
    return from_app_event("hr", message, changed.get("menu", MENU), key=b"k")


def said(result: Incoming | Greeting | Chosen | Silence) -> str:
    incoming = result.incoming if isinstance(result, Chosen) else result
    assert isinstance(incoming, Incoming), result
    return "\n".join(part.text for part in incoming.content.parts)


@pytest.mark.parametrize("name", ["subscribe", "enter_agent"])
def test_who_opens_the_chat_is_greeted(name: str) -> None:
    assert isinstance(meaning(event(name)), Greeting)


@pytest.mark.parametrize(
    ("key", "text"),
    [("LEAVE", "我想请假"), ("本月工资条", "本月工资条"), ("my payslip", "my payslip")],
)
def test_a_touched_menu_is_what_the_person_says(key: str, text: str) -> None:
    assert said(meaning(event("click", key))) == text


def test_a_key_for_programs_says_nothing_without_a_setting() -> None:
    assert meaning(event("click", "V1001_TODAY")) == Silence("event")
    assert meaning(event("click", "")) == Silence("event")


def test_what_was_scanned_is_the_message() -> None:
    scan = {"ScanCodeInfo__ScanType": "qrcode", "ScanCodeInfo__ScanResult": "SN-0042"}
    assert said(meaning(event("scancode_waitmsg", "OTHER", **scan))) == "SN-0042"
    assert said(meaning(event("scancode_waitmsg", "ASSET", **scan))) == "查询这个资产\nSN-0042"
    assert isinstance(meaning(event("scancode_waitmsg", "ASSET")), Silence)


def test_a_selected_place_is_the_message() -> None:
    place = {"Location_X": "22.54", "Location_Y": "113.93", "Scale": "16", "Label": "深南大道", "Poiname": "腾讯大厦"}
    result = meaning(event("location_select", **{f"SendLocationInfo__{name}": value for name, value in place.items()}))
    assert said(result) == "位置：腾讯大厦，深南大道（纬度 22.54，经度 113.93）"
    assert isinstance(meaning(event("location_select")), Silence)


def test_a_touched_button_is_what_the_person_says_and_changes_the_card() -> None:
    card = {"CardType": "button_interaction", "TaskId": "t1", "ResponseCode": "rc"}
    result = meaning(event("template_card_event", "我要退款", **card))
    assert isinstance(result, Chosen)
    assert (said(result), result.said, result.task_id) == ("我要退款", "我要退款", "t1")


def test_a_selection_is_said_with_its_questions() -> None:
    selection = {
        "CardType": "multiple_interaction",
        "TaskId": "t1",
        "SelectedItems__SelectedItem__QuestionKey": "城市",
        "SelectedItems__SelectedItem__OptionIds__OptionId": "北京",
        "SelectedItems__SelectedItem#2__QuestionKey": "日期",
        "SelectedItems__SelectedItem#2__OptionIds__OptionId": "周一",
        "SelectedItems__SelectedItem#2__OptionIds__OptionId#2": "周二",
        "SelectedItems__SelectedItem#3__QuestionKey": "备注",
    }
    result = meaning(event("template_card_event", "submit", **selection))
    assert said(result) == "城市：北京\n日期：周一、周二"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("template_card_menu_event", {"CardType": "text_notice", "TaskId": "t"}),
        ("template_card_event", {"CardType": "text_notice", "TaskId": "t"}),
        ("taskcard_click", {"TaskId": "t"}),
    ],
)
def test_cards_without_buttons_are_answered_and_not_changed(name: str, fields: dict[str, str]) -> None:
    result = meaning(event(name, "不再提醒", **fields))
    assert isinstance(result, Incoming)
    assert said(result) == "不再提醒"


def test_a_button_that_only_shows_what_was_chosen_means_nothing() -> None:
    assert isinstance(meaning(event("template_card_event", "weconverse:done", TaskId="t")), Silence)


@pytest.mark.parametrize(
    "name",
    [
        "unsubscribe",
        "LOCATION",
        "view",
        "view_miniprogram",
        "scancode_push",
        "pic_sysphoto",
        "pic_photo_or_album",
        "pic_weixin",
        "batch_job_result",
        "change_contact",
        "change_external_contact",
        "change_external_chat",
        "change_external_tag",
        "open_approval_change",
        "sys_approval_change",
        "share_agent_change",
        "share_chain_change",
        "inactive_alert",
        "close_inactive_agent",
        "reopen_inactive_agent",
        "low_active_alert",
        "low_active",
        "active_restored",
        "kf_account_auth_change",
        "an_event_of_next_year",
    ],
)
def test_what_nobody_waits_for_is_silence(name: str) -> None:
    assert meaning(event(name, "https://example.com/问?")) == Silence("event")


def test_the_platform_itself_is_not_answered() -> None:
    message = AppMessage(from_user="sys", msg_type="event", event="click", event_key="LEAVE")
    assert meaning(message) == Silence("no person")


def test_two_touches_in_one_second_are_two_turns_and_a_repeated_callback_is_none() -> None:
    card = {"CardType": "button_interaction"}
    events = [
        event("click", "LEAVE"),
        event("click", "ASSET"),
        event("template_card_event", "好的", TaskId="t1", **card),
        event("template_card_event", "好的", TaskId="t2", **card),
        event("scancode_waitmsg", "ASSET", ScanCodeInfo__ScanResult="1"),
        event("scancode_waitmsg", "ASSET", ScanCodeInfo__ScanResult="2"),
    ]

    def names() -> list[str]:
        results = [meaning(one) for one in events]
        turns = [result.incoming if isinstance(result, Chosen) else result for result in results]
        return [turn.request_id for turn in turns if isinstance(turn, Incoming)]

    assert len(set(names())) == len(events)
    assert names() == names()
