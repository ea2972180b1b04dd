"""What a message means: who, what, where to; and what gets no answer."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.application.translate import app_event_id, from_app_message
from adapter.bot.translate import from_bot_message, strip_mention
from adapter.cards import DONE_KEY
from adapter.translate import Address, Chosen, Greeting, Incoming, Rated, Silence, read_address, sentence
from adapter.wire import AppMessage, BotCardClick, BotFeedback, BotMedia, BotMessage
from weconverse.v1.conversation_pb2 import Content
from weconverse.v1.error_reason_pb2 import ErrorReason

NAME = re.compile(r"conversations/[a-zA-Z0-9._~-]{1,128}", re.ASCII)
REQUEST_ID = re.compile(r"[a-zA-Z0-9._~-]{1,128}", re.ASCII)


def app(kind: str = "text", **values: Any) -> AppMessage:
    values = {"from_user": "ZhangSan", "create_time": 1767226010, "msg_id": "759", "agent_id": "2"} | values
    return AppMessage(msg_type=kind, **values)


def bot(kind: str = "text", **values: Any) -> BotMessage:
    return BotMessage(msgtype=kind, **({"userid": "ZhangSan", "msgid": "m1", "chattype": "single"} | values))


def group(text: str, **values: Any) -> BotMessage:
    return bot(text=text, chattype="group", chatid="wrAbC", **values)


def incoming(result: Incoming | Greeting | Chosen | Rated | Silence) -> Incoming:
    assert isinstance(result, Incoming)
    return result


def text(content: Content) -> str:
    return "\n".join(part.text for part in content.parts if part.HasField("text"))


def media(content: Content) -> list[tuple[str, str, str]]:
    return [(p.media.mime_type, p.media.uri, p.media.display_name) for p in content.parts if p.HasField("media")]


# --- The application ---------------------------------------------------------------------


def test_a_text_is_a_turn() -> None:
    one = incoming(from_app_message("hr", app(content=" 年假有几天？ ")))
    assert NAME.fullmatch(one.conversation)
    assert one.conversation.startswith("conversations/wecom.hr.")
    assert one.request_id == "759"
    assert text(one.content) == "年假有几天？"
    assert one.sender.id
    assert not one.sender.display_name
    assert "ZhangSan" not in one.conversation + one.sender.id
    assert read_address(one.address) == Address(door="app", user="ZhangSan", create_time=1767226010)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (app("voice", fields={"MediaId": "m", "Recognition": "说的话"}), "说的话"),
        (
            app("location", fields={"Location_X": "39.9", "Location_Y": "116.3", "Label": "东长安街"}),
            "位置：东长安街（纬度 39.9，经度 116.3）",
        ),
        (
            app("link", fields={"Title": "标题", "Url": "https://x", "Description": "简介"}),
            "链接：标题 https://x\n简介",
        ),
        (app("link", fields={"Url": "https://x"}), "链接：https://x"),
        (app(content="@张三 你好"), "@张三 你好"),
    ],
)
def test_what_can_be_said_in_words_is(message: AppMessage, expected: str) -> None:
    one = incoming(from_app_message("hr", message))
    assert text(one.content) == expected
    assert media(one.content) == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (app("image", fields={"PicUrl": "https://p/x"}), ("image/jpeg", "https://p/x", "")),
        (app("image", fields={"PicUrl": "http://p/x"}), ("image/jpeg", "", "")),
        (app("voice", fields={"MediaId": "m"}), ("audio/amr", "", "")),
        (app("video", fields={"MediaId": "m"}), ("video/mp4", "", "")),
        (app("file", fields={"FileName": "报告.pdf"}), ("application/octet-stream", "", "报告.pdf")),
        (app("hologram"), ("application/x-unknown", "", "")),
    ],
)
def test_other_kinds_are_handed_on_to_be_answered(message: AppMessage, expected: tuple[str, str, str]) -> None:
    assert media(incoming(from_app_message("hr", message)).content) == [expected]


@pytest.mark.parametrize("kind", ["image", "voice", "video", "file"])
def test_what_belongs_to_a_message_of_an_application_is_to_be_fetched(kind: str) -> None:
    fields = {"MediaId": "m1", "PicUrl": "https://p/x", "FileName": "报告.pdf"}
    one = incoming(from_app_message("hr", app(kind, fields=fields)))
    (attachment,) = one.attachments
    assert (attachment.part, attachment.kind, attachment.media_id, attachment.url) == (0, kind, "m1", "")
    # Beside the bytes an address would only make a redelivery look like another message.
    assert media(one.content)[0][1:] == ("", "报告.pdf")


@pytest.mark.parametrize(
    "message",
    [
        app("event", event="enter_agent"),
        app("event", event="subscribe"),
        app("event", event="something_new"),
        app("event", event="change_contact", from_user="sys"),
        app(from_user="sys", content="x"),
        app(from_user="", content="x"),
        app("", content="x"),
        app(content="  \n"),
    ],
)
def test_what_nobody_said_gets_no_answer(message: AppMessage) -> None:
    assert isinstance(from_app_message("hr", message), Silence)


def test_redelivery_is_the_same_turn_and_others_are_not() -> None:
    first = incoming(from_app_message("hr", app(content="a")))
    assert incoming(from_app_message("hr", app(content="a"))) == first
    assert incoming(from_app_message("hr", app(content="a", from_user="b"))).conversation != first.conversation
    assert incoming(from_app_message("it", app(content="a"))).conversation != first.conversation
    assert incoming(from_app_message("hr", app(content="a"), key=b"k")).conversation != first.conversation
    assert incoming(from_app_message("hr", app(content="a"), key=b"k" * 100)).conversation != first.conversation
    unnamed = [incoming(from_app_message("hr", app(msg_id="", content=content))) for content in "aab"]
    assert unnamed[0].request_id == unnamed[1].request_id != unnamed[2].request_id


def test_events_of_one_second_have_different_names() -> None:
    event = {"event": "click", "event_key": "k", "from_user": "u", "create_time": 1, "agent_id": "2"}
    changed = [{}, {"event": "view"}, {"event_key": "j"}, {"from_user": "v"}, {"create_time": 2}, {"agent_id": "3"}]
    names = {app_event_id(app("event", **(event | change))) for change in changed}
    assert len(names) == 6
    # Framed: what moves from one field to the next is another event.
    moved = [app("event", event="ab", event_key="c"), app("event", event="a", event_key="bc")]
    assert app_event_id(moved[0]) != app_event_id(moved[1])


@given(st.text(), st.text(min_size=1), st.integers(0, 2**40))
def test_names_are_always_well_formed(msg_id: str, user: str, when: int) -> None:
    result = from_app_message("hr.1-x", app(content="a", msg_id=msg_id, from_user=user, create_time=when))
    if isinstance(result, Incoming):
        assert NAME.fullmatch(result.conversation)
        assert REQUEST_ID.fullmatch(result.request_id)
        assert len(result.address) <= 4096
        assert read_address(result.address).user == user


def test_an_address_that_nobody_could_keep_is_dropped() -> None:
    assert from_app_message("hr", app(content="a", from_user="u" * 5000)) == Silence("address too long")


# --- The bot -----------------------------------------------------------------------------


def test_a_single_chat_keeps_its_at_sign() -> None:
    one = incoming(from_bot_message("ai", "小助手", bot(text="@小助手 你好"), req_id="r1"))
    assert text(one.content) == "@小助手 你好"
    assert read_address(one.address) == Address(door="bot", user="ZhangSan", req_id="r1")
    assert read_address(one.address).target == "ZhangSan"


def test_a_group_is_one_conversation_of_several_people() -> None:
    one = incoming(from_bot_message("ai", "小助手", group("@小助手 你好"), req_id="r1"))
    two = incoming(from_bot_message("ai", "小助手", group("@小助手 你好", userid="LiSi", msgid="m2")))
    assert text(one.content) == "你好"
    assert one.conversation == two.conversation
    assert one.sender.id != two.sender.id
    assert (one.sender.display_name, two.sender.display_name) == ("ZhangSan", "LiSi")
    address = read_address(one.address)
    assert (address.chat, address.chat_type, address.target, address.user) == ("wrAbC", "group", "wrAbC", "ZhangSan")
    own = incoming(from_bot_message("ai", "小助手", bot(text="你好")))
    assert own.conversation != one.conversation
    assert own.sender.id == one.sender.id
    assert not own.sender.display_name


@pytest.mark.parametrize(
    ("said", "name", "left"),
    [
        ("@小助手 帮我查", "小助手", "帮我查"),
        ("@小助手\u2005帮我查", "小助手", "帮我查"),
        ("  @My Bot 2 what is up", "My Bot 2", "what is up"),
        ("@My Bot\u2005hi @You", "My Bot", "hi @You"),
        ("@小助手，帮我查", "小助手", "帮我查"),
        ("@小助手 @小助手 帮", "小助手", "帮"),
        ("@小助手2 帮我查", "小助手", "@小助手2 帮我查"),
        ("@张三 帮我查", "小助手", "@张三 帮我查"),
        ("帮我 @小助手 查", "小助手", "帮我 @小助手 查"),
        ("@小助手", "小助手", ""),
        ("@谁 帮我查", "", "帮我查"),
        ("@谁\u2005帮我查", "", "帮我查"),
        ("邮件 a@b.c", "", "邮件 a@b.c"),
        ("＠小助手\u2005帮我查", "小助手", "帮我查"),
        ("＠谁 帮我查", "", "帮我查"),
        ("\u2005@小助手\u3000帮我查\u2005", "小助手", "帮我查"),
        ("@小助手\u2005@小助手\u2005@张三\u2005帮", "小助手", "@张三\u2005帮"),
        ("@张三\u2005@小助手\u2005帮我查", "小助手", "@张三\u2005@小助手\u2005帮我查"),
        ("@My Bot 2\u2005go", "My Bot", "2\u2005go"),
        ("@小助手帮我查", "小助手", "@小助手帮我查"),
    ],
)
def test_mentions(said: str, name: str, left: str) -> None:
    assert strip_mention(said, name) == left


def test_only_calling_the_bot_is_answered_too() -> None:
    assert text(incoming(from_bot_message("ai", "小助手", group("@小助手"))).content) == "@小助手"
    quoting = group("@小助手", quote_type="text", quote_text="原文")
    assert text(incoming(from_bot_message("ai", "小助手", quoting)).content) == "> 原文"


def test_quotes_stand_before_the_question() -> None:
    one = incoming(from_bot_message("ai", "", bot(text="什么意思", quote_type="text", quote_text="第一行\n第二行")))
    assert text(one.content) == "> 第一行\n> 第二行\n\n什么意思"
    picture = incoming(from_bot_message("ai", "", bot(text="这是什么", quote_type="image")))
    assert text(picture.content) == "> [图片]\n\n这是什么"
    long = incoming(from_bot_message("ai", "", bot(text="短", quote_type="text", quote_text="长" * 30000)))
    assert len(text(long.content)) < 2100


PICTURE, FILE = BotMedia("image", "https://p", "pk"), BotMedia("file", "https://f", "fk")


def shapes(content: Content) -> list[str]:
    """Texts as they are, media by their type, in order."""
    return [part.text if part.HasField("text") else part.media.mime_type for part in content.parts]


def test_a_mixed_message_keeps_its_order() -> None:
    mixed = bot("mixed", text="看\n对吗", media=(PICTURE, PICTURE), pieces=("看", PICTURE, "对吗", PICTURE))
    one = incoming(from_bot_message("ai", "", mixed))
    assert shapes(one.content) == ["看", "image/jpeg", "对吗", "image/jpeg"]
    assert [(a.part, a.kind, a.url, a.aeskey) for a in one.attachments] == [
        (1, "image", "https://p", "pk"),
        (3, "image", "https://p", "pk"),
    ]
    in_group = msgspec.structs.replace(mixed, chattype="group", chatid="g", pieces=("@小助手\u2005看", PICTURE))
    assert shapes(incoming(from_bot_message("ai", "小助手", in_group)).content) == ["看", "image/jpeg"]
    only_named = msgspec.structs.replace(mixed, chattype="group", chatid="g", pieces=("@小助手", PICTURE))
    assert shapes(incoming(from_bot_message("ai", "小助手", only_named)).content) == ["image/jpeg"]


@pytest.mark.parametrize(
    ("quoted", "expected"),
    [
        ({"quote_type": "text", "quote_text": "原文"}, ["> 原文\n\n什么意思"]),
        ({"quote_type": "voice", "quote_text": "说的话"}, ["> 说的话\n\n什么意思"]),
        ({"quote_type": "voice", "quote_media": (BotMedia("voice"),)}, ["> [语音]\n\n什么意思", "audio/amr"]),
        ({"quote_type": "image", "quote_media": (PICTURE,)}, ["> [图片]\n\n什么意思", "image/jpeg"]),
        ({"quote_type": "file", "quote_media": (FILE,)}, ["> [文件]\n\n什么意思", "application/octet-stream"]),
        (
            {"quote_type": "video", "quote_media": (BotMedia("video", "https://v"),)},
            ["> [视频]\n\n什么意思", "video/mp4"],
        ),
        (
            {"quote_type": "mixed", "quote_pieces": ("上", PICTURE, "下"), "quote_media": (PICTURE,)},
            ["> 上\n> [图片]\n> 下\n\n什么意思", "image/jpeg"],
        ),
        ({"quote_type": "hologram"}, ["> [消息]\n\n什么意思"]),
    ],
)
def test_every_quote_comes_before_the_question(quoted: dict[str, Any], expected: list[str]) -> None:
    one = incoming(from_bot_message("ai", "", bot(text="什么意思", **quoted)))
    assert shapes(one.content) == expected
    assert [a.part for a in one.attachments] == [1] * any(p.url for p in quoted.get("quote_media", ()))


def test_a_quoted_picture_stands_before_the_persons_own() -> None:
    own = bot("mixed", pieces=(PICTURE, "哪个好"), quote_type="file", quote_media=(FILE,))
    one = incoming(from_bot_message("ai", "", own))
    assert shapes(one.content) == ["> [文件]", "application/octet-stream", "image/jpeg", "哪个好"]
    assert [(a.part, a.url) for a in one.attachments] == [(1, "https://f"), (2, "https://p")]


def clicked(key: str = "查余额", *, task: str = "t1", user: str = "ZhangSan", **values: Any) -> BotMessage:
    click = BotCardClick(task_id=task, event_key=key, **values)
    return bot("event", event="template_card_event", userid=user, event_key=key, click=click)


def chosen(message: BotMessage, **options: Any) -> Chosen:
    result = from_bot_message("ai", "", message, **options)
    assert isinstance(result, Chosen)
    return result


def test_a_touched_button_is_what_the_person_says_next() -> None:
    one = chosen(clicked(), req_id="r9")
    assert (text(one.incoming.content), one.said, one.task_id, one.group) == ("查余额", "查余额", "t1", False)
    assert one.incoming.conversation == incoming(from_bot_message("ai", "", bot(text="x"))).conversation
    assert read_address(one.incoming.address).req_id == "", "an event takes no streamed reply"


def test_a_card_answers_once_for_each_person() -> None:
    first = chosen(clicked()).incoming.request_id
    again = msgspec.structs.replace(clicked("别的"), msgid="m2", create_time=9)
    assert chosen(again).incoming.request_id == first
    assert chosen(clicked(user="LiSi")).incoming.request_id != first
    assert chosen(clicked(task="t2")).incoming.request_id != first


def test_what_was_selected_is_said_with_its_question() -> None:
    selected = (("城市", ("北京", "上海")), ("日期", ("周一",)), ("其他", ()))
    assert chosen(clicked("submit", selected=selected)).said == "城市：北京、上海\n日期：周一"


def rated(kind: int, **values: Any) -> Rated:
    feedback = BotFeedback(id="conversations/wecom.ai.x/turns/m1", kind=kind, **values)
    result = from_bot_message("ai", "", bot("event", event="feedback_event", feedback=feedback))
    assert isinstance(result, Rated)
    return result


def test_feedback_is_a_rating_with_its_reasons_in_words() -> None:
    assert (rated(1).kind, rated(2).kind, rated(3).kind) == ("helpful", "unhelpful", "withdrawn")
    worst = rated(2, reasons=(1, 2, 3, 4, 9), content=" 说反了 ")
    assert worst.comment == "与问题无关、内容不完整、内容有错误、数据分析有误；说反了"
    assert (rated(2, content="差").comment, rated(2, reasons=(3,)).comment, rated(2).comment) == (
        "差",
        "内容有错误",
        "",
    )
    assert worst.turn == "conversations/wecom.ai.x/turns/m1"
    assert worst.rater.id == incoming(from_bot_message("ai", "", bot(text="x"))).sender.id


@pytest.mark.parametrize(
    "feedback",
    [BotFeedback(id="someone-elses", kind=1), BotFeedback(id="conversations/c/turns/1", kind=7), BotFeedback()],
)
def test_foreign_feedback_is_nothing(feedback: BotFeedback) -> None:
    message = bot("event", event="feedback_event", feedback=feedback)
    assert from_bot_message("ai", "", message) == Silence("event")


@pytest.mark.parametrize(
    ("message", "said", "kinds"),
    [
        (bot("voice", text="说的话"), "说的话", []),
        (bot("voice", media=(BotMedia("voice"),)), "", ["audio/amr"]),
        (bot("image", media=(BotMedia("image", "https://u", "k"),)), "", ["image/jpeg"]),
        (bot("file", media=(BotMedia("file", "https://u", "k"),)), "", ["application/octet-stream"]),
        (bot("video", media=(BotMedia("video", "https://u", "k"),)), "", ["video/mp4"]),
        (bot("mixed", text="看", media=(BotMedia("image", "https://u"),)), "看", ["image/jpeg"]),
        (bot("hologram"), "", ["application/x-unknown"]),
    ],
)
def test_bot_kinds(message: BotMessage, said: str, kinds: list[str]) -> None:
    content = incoming(from_bot_message("ai", "", message)).content
    assert text(content) == said
    # No addresses: they are signed anew on each delivery, and what they yield is encrypted.
    assert media(content) == [(kind, "", "") for kind in kinds]


def test_a_newly_signed_address_is_the_same_message() -> None:
    first, again = (bot("image", media=(BotMedia("image", f"https://u?sign={n}", f"k{n}"),)) for n in range(2))
    one, two = (incoming(from_bot_message("ai", "", message)) for message in (first, again))
    assert (one.content, one.request_id, one.conversation) == (two.content, two.request_id, two.conversation)
    assert [a.url for a in (*one.attachments, *two.attachments)] == ["https://u?sign=0", "https://u?sign=1"]


def test_enter_chat_is_greeted() -> None:
    result = from_bot_message("ai", "", bot("event", event="enter_chat", create_time=5), req_id="r9")
    assert isinstance(result, Greeting)
    assert result.conversation == incoming(from_bot_message("ai", "", bot(text="x"))).conversation
    assert read_address(result.address).req_id == "r9"
    unnamed = from_bot_message("ai", "", bot("event", event="enter_chat", msgid="", create_time=5))
    assert isinstance(unnamed, Greeting)
    assert REQUEST_ID.fullmatch(unnamed.request_id)


@pytest.mark.parametrize(
    "message",
    [
        bot("event", event="feedback_event"),
        bot("event", event="template_card_event"),
        clicked(DONE_KEY),
        clicked(""),
        bot("event", event="disconnected_event"),
        bot("event", event="something_new"),
        bot("event", event="enter_chat", userid="x" * 5000),
        bot("stream", stream_id="s"),
        bot(userid="", text="x"),
        bot(userid="sys", text="x"),
        bot(text="   "),
        bot("mixed"),
        bot(""),
    ],
)
def test_bot_silence(message: BotMessage) -> None:
    assert isinstance(from_bot_message("ai", "", message), Silence)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b'{"door":"fax","user":"u"}', b'{"version":2,"door":"app","user":"u"}']
)
def test_foreign_addresses_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="address: "):
        read_address(data)


# --- Sentences ---------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [*ErrorReason.keys(), "SOMETHING_NEW"])
def test_every_reason_has_a_sentence_without_internals(reason: str) -> None:
    said = sentence(reason)
    assert said.endswith("。")
    assert not re.search("[A-Za-z0-9]", said)


def test_reasons_that_a_person_can_act_on_are_told_apart() -> None:
    told = [
        sentence(reason) for reason in ("INPUT_TOO_LONG", "MEDIA_NOT_SUPPORTED", "RATE_LIMITED", "CONVERSATION_BUSY")
    ]
    assert len({*told, sentence("INTERNAL_ERROR")}) == 5
