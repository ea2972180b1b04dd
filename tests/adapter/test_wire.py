"""Bodies and frames: what WeCom sends reads right, what others send is refused quickly."""

import importlib
import json
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wechatpy.enterprise import parse_message as referee_parse

from adapter import wire
from adapter.crypto import Envelope
from adapter.wire import (
    AppMessage,
    WireError,
    envelope_xml,
    message_xml,
    parse_bot_message,
    parse_envelope,
    parse_frame,
    parse_message,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data/vectors/wecom_vectors.json").read_text())
POSITIVE = {vector["id"]: vector for vector in VECTORS["positive"] + VECTORS["official"]}


def body_of(vector: dict[str, Any]) -> bytes:
    body = vector["http_body"]
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def xml_of(**elements: str) -> bytes:
    return ("<xml>" + "".join(f"<{name}>{text}</{name}>" for name, text in elements.items()) + "</xml>").encode()


# --- The outer body ----------------------------------------------------------------------


@pytest.mark.parametrize("vector", [v for v in VECTORS["positive"] if "http_body" in v], ids=lambda v: v["id"])
def test_reads_the_outer_body(vector: dict[str, Any]) -> None:
    assert parse_envelope(body_of(vector)).encrypted == vector["encrypt"]


def test_reads_both_forms_with_all_fields() -> None:
    expected = wire.OuterEnvelope("ww1", "218", "QUJD")
    assert parse_envelope(xml_of(ToUserName="ww1", AgentID="218", Encrypt="QUJD")) == expected
    assert parse_envelope(b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>\n' + xml_of(
        ToUserName="<![CDATA[ww1]]>", AgentID=" 218 ", Encrypt="<![CDATA[QUJD]]>")) == expected  # fmt: skip
    assert parse_envelope(b'{"ToUserName":"ww1","AgentID":218,"Encrypt":"QUJD"}') == expected
    assert parse_envelope(b' {"tousername":"ww1","agentid":"218","encrypt":"QUJD"}') == expected
    assert parse_envelope(b'{"encrypt":"QUJD"}') == wire.OuterEnvelope("", "", "QUJD")


def test_writes_what_it_reads() -> None:
    sealed = Envelope("token", "a" * 43, "ww1").seal(b"hello", "1", "2")
    assert parse_envelope(envelope_xml(sealed, "ww1", "218")) == wire.OuterEnvelope("ww1", "218", sealed.encrypted)


def test_passive_reply_equals_the_official_form() -> None:
    for name in ("R01", "R02"):
        vector = POSITIVE[name]
        box = Envelope(vector["token"], vector["encoding_aes_key"], vector["receiveid"])
        head = bytes.fromhex(vector["random16_hex"])
        sealed = box.seal(vector["plaintext"].encode(), vector["timestamp"], vector["nonce"], head)
        assert wire.passive_xml(sealed).decode() == vector["expected_http_body_xml"]
    text = wire.AppMessage(
        to_user="ZhangSan",
        from_user="ww8f3c1d20b7a94e56",
        create_time=1767226001,
        msg_type="text",
        content="收到 ✅ 第1行\n第2行",
    )
    assert wire.message_xml(text).decode() == POSITIVE["R01"]["plaintext"]


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
) + b"]><xml><Encrypt>&j;</Encrypt></xml>"  # fmt: skip
HOSTILE = {
    "billion laughs": BOMB,
    "quadratic": b'<!DOCTYPE x [<!ENTITY a "'
    + b"a" * 30000
    + b'">]><xml><Encrypt>'
    + b"&a;" * 5000
    + b"</Encrypt></xml>",
    "external entity": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><xml><Encrypt>&a;</Encrypt></xml>',
    "external dtd": b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><xml><Encrypt>QQ</Encrypt></xml>',
    "parameter entity": b'<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///dev/null"> %a;]><xml><Encrypt>QQ</Encrypt></xml>',
    "bare doctype": b"<!DOCTYPE xml><xml><Encrypt>QQ</Encrypt></xml>",
    "deep": b"<a>" * 8000 + b"</a>" * 8000,
    "deep unclosed": b"<a>" * 20000,
    "many elements": b"<xml>" + b"<a/>" * 12000 + b"</xml>",
    "many attributes": b"<xml " + b" ".join(b'a%d="x"' % n for n in range(5000)) + b"></xml>",
    "utf-7": b'<?xml version="1.0" encoding="UTF-7"?>+ADw-xml+AD4-',
    "utf-7 declared only": b'<?xml version="1.0" encoding="UTF-7"?><xml><Encrypt>QQ</Encrypt></xml>',
    "utf-16": '<?xml version="1.0" encoding="UTF-16"?><xml><Encrypt>QQ</Encrypt></xml>'.encode("utf-16"),
    "utf-16 bare": "<xml><Encrypt>QQ</Encrypt></xml>".encode("utf-16-le"),
    "latin-1": b"<?xml version='1.0' encoding = 'iso-8859-1'?><xml><Encrypt>QQ</Encrypt></xml>",
    "invalid utf-8": b"<xml><Encrypt>\xff</Encrypt></xml>",
    "too long": xml_of(Encrypt="A" * 65536),
    "empty": b"",
    "blank": b"  \n",
    "no cipher text": xml_of(ToUserName="ww1"),
    "empty cipher text": xml_of(Encrypt=""),
    "two cipher texts": b"<xml><Encrypt>QQ</Encrypt><Encrypt>QQ</Encrypt></xml>",
    "cipher text hidden deeper": b"<xml><a><Encrypt>QQ</Encrypt></a></xml>",
    "two roots": b"<xml><Encrypt>QQ</Encrypt></xml><xml/>",
    "json deep": b'{"a":' * 10000,
    "json deep lists": b'{"encrypt":' + b"[" * 10000 + b"]" * 10000 + b"}",
    "json deep but parsed": b'{"encrypt":' + b"[" * 60 + b'"QQ"' + b"]" * 60 + b"}",
    "json many": b'{"encrypt":"QQ",' + b",".join(b'"a%d":1' % n for n in range(4000)) + b"}",
    "json not an object": b"[1]",
    "json twice": b'{"encrypt":"QQ","Encrypt":"QUJD"}',
    "json list": b'{"encrypt":["QQ","QUJD"]}',
    "json nothing": b'{"encrypt":null}',
    "json not a number": b'{"encrypt":NaN}',
    "json long number": b'{"encrypt":' + b"9" * 5000 + b"x}",
}


def an_honest_megabyte() -> float:
    """Seconds of work for sixteen of the largest callbacks: what this machine takes for a megabyte."""
    body = xml_of(Encrypt="A" * (65536 - len(xml_of(Encrypt=""))))
    began = time.process_time()
    for _ in range(16):
        parse_envelope(body)
    return time.process_time() - began


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_are_refused_quickly(name: str) -> None:
    spent, honest = [], []
    for _ in range(5):
        honest.append(an_honest_megabyte())
        began = time.process_time()
        with pytest.raises(WireError) as refused:
            parse_envelope(HOSTILE[name])
        spent.append(time.process_time() - began)
    # Side by side, the worst of them takes about as long as this.
    assert min(spent) < 4 * min(honest)
    # Says what was wrong without quoting what came.
    assert len(str(refused.value)) < 80


def test_the_size_limit_is_exact() -> None:
    body = xml_of(Encrypt="A" * (65536 - len(xml_of(Encrypt=""))))
    assert len(body) == 65536
    assert parse_envelope(body).encrypted
    with pytest.raises(WireError, match="longer than 65536"):
        parse_envelope(body + b" ")
    with pytest.raises(WireError, match="longer than 10"):
        parse_envelope(body, max_bytes=10)


# --- The application's messages ----------------------------------------------------------

MESSAGES = [
    AppMessage(to_user="ww1", from_user="u", create_time=1, msg_type="text", msg_id="7590123456789012346", agent_id="2",
               content="<b> ]]> & 你好\n第二行"),
    AppMessage(to_user="ww1", from_user="u", create_time=1, msg_type="image", msg_id="1", agent_id="2",
               fields={"PicUrl": "https://p.example/x?a=1&b=2", "MediaId": "m"}),
    AppMessage(to_user="ww1", from_user="u", create_time=1, msg_type="voice", msg_id="1", agent_id="2",
               fields={"MediaId": "m", "Format": "amr"}),
    AppMessage(to_user="ww1", from_user="u", create_time=1, msg_type="video", msg_id="1", agent_id="2",
               fields={"MediaId": "m", "ThumbMediaId": "t"}),
    AppMessage(to_user="ww1", from_user="u", create_time=1, msg_type="location", msg_id="1", agent_id="2",
               fields={"Location_X": "39.9", "Location_Y": "116.3", "Scale": "15", "Label": "东长安街",
                       "AppType": "wxwork"}),
    AppMessage(to_user="ww1", from_user="u", create_time=1, msg_type="link", msg_id="1", agent_id="2",
               fields={"Title": "标题", "Description": "d", "Url": "https://x", "PicUrl": ""}),
    AppMessage(to_user="ww1", from_user="u", create_time=1, msg_type="file", msg_id="1", agent_id="2",
               fields={"MediaId": "m", "FileName": "报告.pdf"}),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.msg_type)
def test_every_kind_survives_the_way(message: AppMessage) -> None:
    assert parse_message(message_xml(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.msg_type)
def test_wechatpy_reads_what_we_write(message: AppMessage) -> None:
    read = referee_parse(message_xml(message).decode())
    assert (read.source, read.target, str(read.id)) == ("u", "ww1", message.msg_id)
    if message.msg_type == "text":
        assert read.content == message.content
    elif message.msg_type != "file":
        assert read.type == message.msg_type


EVENTS = [
    "subscribe", "unsubscribe", "enter_agent", "LOCATION", "click", "view", "view_miniprogram", "scancode_push",
    "scancode_waitmsg", "pic_sysphoto", "pic_photo_or_album", "pic_weixin", "location_select", "template_card_event",
    "template_card_menu_event", "taskcard_click", "batch_job_result", "change_contact", "change_external_contact",
    "change_external_chat", "change_external_tag", "open_approval_change", "sys_approval_change", "share_agent_change",
    "share_chain_change", "inactive_alert", "close_inactive_agent", "kf_msg_or_event", "something_of_next_year",
]  # fmt: skip


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_read(event: str) -> None:
    body = (
        f"<xml><ToUserName>ww1</ToUserName><FromUserName>sys</FromUserName><CreateTime>12</CreateTime>"
        f"<MsgType>event</MsgType><Event><![CDATA[{event}]]></Event><EventKey><![CDATA[k]]></EventKey>"
        f"<AgentId>7</AgentId><SendPicsInfo><Count>2</Count><PicList><item><PicMd5Sum>a</PicMd5Sum></item>"
        f"<item><PicMd5Sum>b</PicMd5Sum></item></PicList></SendPicsInfo></xml>"
    )
    message = parse_message(body.encode())
    assert (message.event, message.event_key, message.agent_id, message.msg_id) == (event, "k", "7", "")
    assert message.fields == {
        "SendPicsInfo.Count": "2",
        "SendPicsInfo.PicList.item.PicMd5Sum": "a",
        "SendPicsInfo.PicList.item#2.PicMd5Sum": "b",
    }
    again = parse_message(message_xml(message))
    assert again == message


def test_reads_the_recorded_messages() -> None:
    card = parse_message(POSITIVE["X04"]["plaintext"].encode())
    assert (card.event, card.event_key, card.fields["TaskId"]) == ("template_card_event", "btn_ok", "task-20260101@1")
    assert card.fields["SelectedItems.SelectedItem.OptionIds.OptionId#2"] == "o2"
    assert card.fields["SelectedItems.SelectedItem#2.QuestionKey"] == "q2"
    notice = parse_message(POSITIVE["X06"]["plaintext"].encode())
    assert (notice.from_user, notice.event, notice.fields["OpenKfId"]) == (
        "",
        "kf_msg_or_event",
        "wkAbCdEfGhIjKlMnOpQrStUvWx",
    )
    assert parse_message(POSITIVE["X07"]["plaintext"].encode()).msg_type == ""
    assert parse_message(POSITIVE["X02"]["plaintext"].encode()).content.endswith("]]> 完")


def test_json_inside_reads_like_xml() -> None:
    body = (
        '{"ToUserName":"ww1","FromUserName":"u","CreateTime":12,"MsgType":"text","Content":"你好",'
        '"MsgId":7590123456789012346,"AgentID":2}'
    )
    assert parse_message(body.encode()) == AppMessage(
        to_user="ww1",
        from_user="u",
        create_time=12,
        msg_type="text",
        content="你好",
        msg_id="7590123456789012346",
        agent_id="2",
    )


def test_pasted_control_characters_do_not_lose_the_message() -> None:
    body = b"<xml><MsgType>text</MsgType><CreateTime>x</CreateTime><Content><![CDATA[a\x0bb\x00]]></Content></xml>"
    with pytest.raises(WireError):
        parse_message(body)
    message = parse_message(body.replace(b"\x00", b""))
    assert (message.content, message.create_time) == ("ab", 0)


@pytest.mark.parametrize(
    "name", [name for name in HOSTILE if not name.startswith("json") and "cipher" not in name and name != "too long"]
)
def test_hostile_messages_are_refused_too(name: str) -> None:
    with pytest.raises(WireError):
        parse_message(HOSTILE[name])


XML_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\r", exclude_categories=("Cc", "Cs"))
    | st.sampled_from("\n\t]>&<"),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(XML_TEXT, st.dictionaries(st.sampled_from(["Title", "A.B", "A.C.D", "Label"]), XML_TEXT))
def test_any_text_survives_the_way(content: str, fields: dict[str, str]) -> None:
    dropped = {ord(character): None for character in "\ufffe\uffff"}
    message = AppMessage(from_user="u", msg_type="text", content=content, fields=fields)
    read = parse_message(message_xml(message))
    assert read.content == content.translate(dropped)
    assert read.fields == {name: text.translate(dropped) for name, text in fields.items()}


# --- Frames ------------------------------------------------------------------------------


def test_frames_as_documented() -> None:
    assert json.loads(wire.subscribe_frame("r", "bot", "s")) == {
        "cmd": "aibot_subscribe", "headers": {"req_id": "r"}, "body": {"bot_id": "bot", "secret": "s"}}  # fmt: skip
    assert json.loads(wire.ping_frame("r")) == {"cmd": "ping", "headers": {"req_id": "r"}}
    assert json.loads(wire.pong_frame("r")) == {"cmd": "pong", "headers": {"req_id": "r"}}
    assert json.loads(wire.stream_frame("r", "s1", "文字", False))["body"] == {
        "msgtype": "stream", "stream": {"id": "s1", "finish": False, "content": "文字"}}  # fmt: skip
    assert json.loads(wire.welcome_frame("r", "您好")) == {
        "cmd": "aibot_respond_welcome_msg", "headers": {"req_id": "r"},
        "body": {"msgtype": "text", "text": {"content": "您好"}}}  # fmt: skip
    assert json.loads(wire.send_frame("r", "c", 2, "markdown", {"content": "**x**"})) == {
        "cmd": "aibot_send_msg", "headers": {"req_id": "r"},
        "body": {"chatid": "c", "chat_type": 2, "msgtype": "markdown", "markdown": {"content": "**x**"}}}  # fmt: skip
    assert json.loads(wire.ack_frame("r", 0, "ok")) == {"headers": {"req_id": "r"}, "errcode": 0, "errmsg": "ok"}
    assert json.loads(wire.ack_frame("r", 0, "ok", {"upload_id": "u"}))["body"] == {"upload_id": "u"}


def test_command_names_equal_the_official_client() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its way of importing websockets is deprecated
        commands = importlib.import_module("aibot.types").WsCmd
    official = {value for name, value in vars(commands).items() if name.isupper()}
    frames = [
        wire.subscribe_frame("r", "b", "s"),
        wire.ping_frame("r"),
        wire.stream_frame("r", "s", "x", True),
        wire.welcome_frame("r", "x"),
        wire.send_frame("r", "c", 1, "markdown", {"content": "x"}),
        wire.callback_frame("r", {}),
        wire.event_frame("r", {}),
    ]
    assert {parse_frame(frame).cmd for frame in frames} <= official


def test_frames_are_read_as_written() -> None:
    frame = parse_frame(wire.callback_frame("r1", {"msgid": "m"}))
    assert (frame.cmd, frame.req_id, frame.body, frame.errcode) == ("aibot_msg_callback", "r1", {"msgid": "m"}, None)
    frame = parse_frame(wire.ack_frame("r1", 846608, "expired"))
    assert (frame.cmd, frame.req_id, frame.body, frame.errcode, frame.errmsg) == ("", "r1", {}, 846608, "expired")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ('{"body":{"c":"a\x01b\x0bc"}}', "a\x01b\x0bc"),
        (b'{"body":{"c":"binary"}}', "binary"),
        ('\ufeff{"body":{"c":"marked"}}', "marked"),
        ('{"body":{"c":"half \\ud83d pair"}}', "half ? pair"),
        (b'{"body":{"c":"bad \xff byte"}}', "bad \ufffd byte"),
        ('{"body":{"c":"line\nbreak\tand tab"}}', "line\nbreak\tand tab"),
    ],
)
def test_frames_are_read_with_patience(text: str | bytes, content: str) -> None:
    read = parse_frame(text).body["c"]
    assert read == content
    read.encode()


def test_frames_with_wrong_types_read_as_empty() -> None:
    frame = parse_frame('{"cmd":1,"headers":[],"body":"x","errcode":"40058","errmsg":null}')
    assert (frame.cmd, frame.req_id, frame.body, frame.errcode, frame.errmsg) == ("1", "", {}, 40058, "")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '"x"', "{", "{'a':1}", '{"a":NaN}', "[" * 100000, '{"a":' * 5000, b"\xff\xfe"]
)
def test_what_is_no_frame_is_refused(text: str | bytes) -> None:
    with pytest.raises(WireError):
        parse_frame(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["msgtype", "text", "content", "mixed", "msg_item", "quote", "event", "eventtype", "userid", "voice"]),
        inner, max_size=5), max_leaves=20)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["msgid", "msgtype", "text", "mixed", "quote", "event", "from", "stream", "voice"]), JSON
    )
)
def test_no_body_crashes_the_bot_parser(body: dict[str, Any]) -> None:
    assert parse_bot_message(body).raw == body


# --- The bot's messages ------------------------------------------------------------------


def test_bot_messages() -> None:
    common = {"msgid": "m", "aibotid": "b", "chattype": "single", "from": {"userid": "u"}}
    group = parse_bot_message(json.loads(POSITIVE["B01"]["plaintext"]))
    assert (group.chattype, group.chatid, group.userid, group.text) == (
        "group", "wrAbCdEf0123456789", "ZhangSan", "@小助手 帮我查一下年假 🏖️")  # fmt: skip
    assert group.response_url.startswith("https://")
    mixed = parse_bot_message({**common, "msgtype": "mixed", "mixed": {"msg_item": [
        {"msgtype": "text", "text": {"content": "看"}}, {"msgtype": "image", "image": {"url": "https://u",
        "aeskey": "k"}},
        {"msgtype": "text", "text": {"content": "这个"}}]}})  # fmt: skip
    assert mixed.text == "看\n这个"
    assert mixed.media == (wire.BotMedia("image", "https://u", "k"),)
    assert mixed.pieces == ("看", wire.BotMedia("image", "https://u", "k"), "这个")
    quoted = parse_bot_message({**common, "msgtype": "text", "text": {"content": "?"}, "quote": {**mixed.raw}})
    assert (quoted.pieces, quoted.quote_pieces, quoted.quote_media) == ((), mixed.pieces, mixed.media)
    voice = parse_bot_message({**common, "msgtype": "voice", "voice": {"content": "说的话"}})
    assert (voice.text, voice.media) == ("说的话", ())
    silent = parse_bot_message({**common, "msgtype": "voice", "voice": {"content": ""}})
    assert (silent.text, silent.media) == ("", (wire.BotMedia("voice"),))
    quoting = parse_bot_message({**common, "msgtype": "text", "text": {"content": "什么意思"},
                                 "quote": {"msgtype": "text", "text": {"content": "原文"}}})  # fmt: skip
    assert (quoting.text, quoting.quote_type, quoting.quote_text) == ("什么意思", "text", "原文")


def test_bot_events() -> None:
    welcome = parse_bot_message(json.loads(POSITIVE["B04"]["plaintext"]))
    assert (welcome.msgtype, welcome.event, welcome.userid, welcome.create_time) == (
        "event",
        "enter_chat",
        "lisi",
        1767227003,
    )
    nested = {"eventtype": "template_card_event", "template_card_event": {"event_key": "k"}}
    flat = {"eventtype": "template_card_event", "event_key": "k"}
    for event in (nested, flat):
        assert parse_bot_message({"msgtype": "event", "event": event}).event_key == "k"
    fields = {
        "card_type": "vote_interaction",
        "event_key": "submit",
        "task_id": "t",
        "selected_items": {"selected_item": [{"question_key": "q", "option_ids": {"option_id": ["a", "b"]}}, "x"]},
    }
    for event in ({"template_card_event": fields}, fields):
        click = parse_bot_message({"msgtype": "event", "event": {"eventtype": "template_card_event", **event}}).click
        assert click == wire.BotCardClick(
            task_id="t", event_key="submit", card_type="vote_interaction", selected=(("q", ("a", "b")), ("", ()))
        )
    says = {"id": "f", "type": 2, "content": "差", "inaccurate_reason_list": [1, "3", None]}
    for event in ({"feedback_event": says}, says):
        feedback = parse_bot_message({"msgtype": "event", "event": {"eventtype": "feedback_event", **event}}).feedback
        assert feedback == wire.BotFeedback(id="f", kind=2, reasons=(1, 3), content="差")
    assert parse_bot_message({"msgtype": "stream", "stream": {"id": "s"}}).stream_id == "s"
