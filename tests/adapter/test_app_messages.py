"""What an application sends, and to whom: receivers, WeCom's own JSON, and how it reads in words."""

import json
from typing import Any

import msgspec
import pytest

from adapter.application.messages import Receiver, encode, receiver_of, text, to_user
from adapter.application.native import in_words, native
from adapter.application.pieces import File, Said, pieces_of
from adapter.cards import CARD_TYPE, MESSAGE_TYPE
from weconverse.v1.conversation_pb2 import Choice, Content, Media, Part, Turn

ARTICLE = {"title": "公告", "description": "请看", "url": "https://example.com"}
TEXTCARD = {"title": "领奖", "description": '<div class="gray">今天</div>恭喜', "url": "https://example.com"}
NOTICE = {"appid": "wx1", "title": "会议室预定", "content_item": [{"key": "地点", "value": "三楼"}]}
PAGE = {"title": "月报", "thumb_media_id": "m", "content": "<p>正文</p>", "digest": "摘要"}
CARD = {
    "card_type": "text_notice",
    "main_title": {"title": "报销"},
    "card_action": {"type": 1, "url": "https://example.com"},
}


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("user:lina", Receiver({"touser": "lina"})),
        ("user:lina|zhangwei", Receiver({"touser": "lina|zhangwei"})),
        ("party:1|2", Receiver({"toparty": "1|2"})),
        ("tag:7", Receiver({"totag": "7"})),
        ("@all", Receiver({"touser": "@all"})),
        ("chat:wrDaily01", Receiver(chat="wrDaily01")),
    ],
)
def test_receivers(recipient: str, expected: Receiver) -> None:
    assert receiver_of(recipient) == expected


@pytest.mark.parametrize("recipient", ["", "lina", "user:", "user:a||b", "user:a|@all", "chat:", "chat:a b", "x:y"])
def test_no_receivers(recipient: str) -> None:
    with pytest.raises(ValueError, match=r"^recipient: "):
        receiver_of(recipient)


def test_whose_messages_are_counted() -> None:
    assert receiver_of("user:a|b").users == ("a", "b")
    assert receiver_of("@all").users == receiver_of("party:1").users == receiver_of("chat:wr1").users == ()
    assert len({receiver_of(one).key for one in ("user:a", "party:a", "tag:a", "chat:a")}) == 4


def test_a_group_has_neither_agent_nor_duplicate_check() -> None:
    body = encode(text("日报"), Receiver(chat="wr1"), 7, duplicate_check=True, interval=600)
    assert msgspec.json.decode(body) == {"chatid": "wr1", "msgtype": "text", "text": {"content": "日报"}}


def read(kind: str, body: Any, **more: Any) -> Any:
    return native(json.dumps({"msgtype": kind, kind: body, **more}).encode())


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text", {"content": "x"}),
        ("markdown", {"content": "x"}),
        ("image", {"media_id": "m"}),
        ("voice", {"media_id": "m"}),
        ("file", {"media_id": "m"}),
        ("video", {"media_id": "m", "title": "片"}),
        ("textcard", TEXTCARD),
        ("news", {"articles": [ARTICLE]}),
        ("news", {"articles": [{"title": "小程序", "appid": "wx1", "pagepath": "p"}]}),
        ("mpnews", {"articles": [PAGE]}),
        ("miniprogram_notice", NOTICE),
        ("template_card", CARD),
    ],
)
def test_every_kind_in_wecoms_own_json(kind: str, body: dict[str, Any]) -> None:
    message = read(kind, body, enable_id_trans=1, touser="@all", agentid=9)
    assert (message.kind, message.body, message.options) == (kind, body, {"enable_id_trans": 1})
    sent = msgspec.json.decode(encode(message, to_user("lina"), 7, duplicate_check=True, interval=600))
    assert (sent["touser"], sent["agentid"], sent[kind]) == ("lina", 7, body), "the receiver is the push's"


@pytest.mark.parametrize(
    ("kind", "body", "more", "field"),
    [
        ("hologram", {}, {}, "message.msgtype:"),
        ("text", {"content": ""}, {}, "message.text.content:"),
        ("text", {"content": "字" * 683}, {}, "message.text.content:"),
        ("image", {}, {}, "message.image:"),
        ("video", {"media_id": "m", "title": "字" * 43}, {}, "message.video.title:"),
        ("textcard", {**TEXTCARD, "title": "字" * 129}, {}, "message.textcard.title:"),
        ("textcard", {**TEXTCARD, "url": "example.com"}, {}, "message.textcard.url:"),
        ("textcard", {**TEXTCARD, "btntxt": "五个字太多"}, {}, "message.textcard.btntxt:"),
        ("news", {"articles": []}, {}, "message.news.articles:"),
        ("news", {"articles": [ARTICLE] * 9}, {}, "message.news.articles:"),
        ("news", {"articles": [{**ARTICLE, "title": "字" * 43}]}, {}, "message.news.articles[0].title:"),
        ("news", {"articles": [ARTICLE, {"title": "x"}]}, {}, "message.news.articles[1].url:"),
        ("news", {"articles": [ARTICLE]}, {"safe": 1}, "message.safe:"),
        ("mpnews", {"articles": [{**PAGE, "author": "字" * 22}]}, {}, "message.mpnews.articles[0].author:"),
        ("textcard", TEXTCARD, {"safe": 2}, "message.safe:"),
        ("miniprogram_notice", {**NOTICE, "title": "三个字"}, {}, "message.miniprogram_notice.title:"),
        (
            "miniprogram_notice",
            {**NOTICE, "content_item": [{"key": "k", "value": "x" * 31}]},
            {},
            "message.miniprogram_notice.content_item[0].value:",
        ),
        ("template_card", {"card_type": "text_notice"}, {}, "card.card_action:"),
    ],
)
def test_what_breaks_a_limit_is_named(kind: str, body: Any, more: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=";") as refused:
        read(kind, body, **more)
    assert str(refused.value).startswith(field)


def test_messages_in_words() -> None:
    assert in_words(read("textcard", TEXTCARD)) == "【领奖】\n今天恭喜\nhttps://example.com"
    assert in_words(read("news", {"articles": [ARTICLE] * 2})) == "\n\n".join(
        ["【公告】\n请看\nhttps://example.com"] * 2
    )
    assert in_words(read("mpnews", {"articles": [PAGE]})) == "【月报】\n摘要"
    assert in_words(read("miniprogram_notice", NOTICE)) == "【会议室预定】\n地点：三楼"
    assert in_words(read("image", {"media_id": "m"})) == ""


# --- The pieces of a turn ----------------------------------------------------------------


def special(value: Any, mime_type: str = CARD_TYPE) -> Part:
    return Part(media=Media(mime_type=mime_type, inline_data=json.dumps(value).encode()))


def pieces(turn: Turn, receiver: Receiver | None = None, **changed: Any) -> list[str]:
    """Each piece by its kind, texts by what they say."""
    options = {"with_markdown": False, "with_cards": True, **changed}
    found = []
    for piece in pieces_of(turn, receiver or to_user("lina"), **options):
        if isinstance(piece, File):
            found.append(f"<file {piece.media.display_name}>")
        elif isinstance(piece, Said):
            message = piece.message
            found.append(message.body["content"] if message.kind in ("text", "markdown") else f"<{message.kind}>")
    return found


FULL = Turn(
    name="conversations/c/turns/1",
    reply=Content(
        parts=[
            Part(text="一"),
            Part(text="**二**"),
            special(CARD),
            Part(media=Media(mime_type="image/png", display_name="a.png", inline_data=b"x")),
            special({"msgtype": "news", "news": {"articles": [ARTICLE]}}, MESSAGE_TYPE),
            Part(text="三"),
        ]
    ),
    choices=[Choice(label="好", text="好的")],
)


def test_texts_that_follow_each_other_are_one_message() -> None:
    expected = ["一\n二", "<template_card>", "<file a.png>", "<news>", "三", "<template_card>"]
    assert pieces(FULL) == expected
    assert pieces(FULL, with_markdown=True)[0] == "一\n**二**"


def test_from_the_refused_piece_on_everything_is_in_words() -> None:
    news = "【公告】\n请看\nhttps://example.com"
    assert pieces(FULL, words_from=1) == [
        "一\n二",
        "<template_card>",
        "<file a.png>",
        news,
        "三",
        "您可以直接回复：\n• 好的（好）",
    ]


def test_groups_and_people_without_cards_get_words() -> None:
    card = "【报销】\nhttps://example.com"
    without = ["一\n二", card, "<file a.png>", "<news>", "三\n\n您可以直接回复：\n• 好的（好）"]
    assert pieces(FULL, with_cards=False) == without
    assert pieces(FULL, Receiver(chat="wr1")) == without


def test_an_empty_reply_is_something_to_see() -> None:
    assert pieces(Turn()) == ["（没有可以显示的内容）"]


def test_a_card_that_is_no_json_is_an_error_of_the_sender() -> None:
    broken = Turn(reply=Content(parts=[Part(media=Media(mime_type=CARD_TYPE, inline_data=b"x"))]))
    with pytest.raises(ValueError, match=r"^card: "):
        pieces(broken)
