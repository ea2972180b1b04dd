"""Passive replies, opened and read by an implementation that nobody here wrote."""

from defusedxml import ElementTree as Xml
from wechatpy.enterprise.crypto import WeChatCrypto
from wechatpy.replies import TextReply, deserialize_reply

from adapter.application import passive
from adapter.callbacks.gate import Opened
from adapter.crypto import Envelope
from adapter.greeting import Greeted
from adapter.wire import AppMessage

CORP, TOKEN, KEY = (
    "ww1436e0e65a779aee",
    "hJqcu3uJ9Tn2gXPmxx2w9kkCkCE2EPYo",
    "6qkdMrq68nTKduznJYO1A37W2oEgpkMUvkttRToqhUt",
)


def opened(reply: AppMessage) -> str:
    """What WeCom finds inside, having checked signature and receiver."""
    message = AppMessage(to_user=CORP, from_user="zhangwei", msg_type="event", event="enter_agent")
    body = passive.answer(reply, message, Opened(b"", "1767226010", "nonce1"), Envelope(TOKEN, KEY, CORP))
    outer = {element.tag: element.text or "" for element in Xml.fromstring(body)}
    assert (outer["TimeStamp"], outer["Nonce"]) == ("1767226010", "nonce1")
    plain = WeChatCrypto(TOKEN, KEY, CORP).decrypt_message(
        body.decode(), outer["MsgSignature"], outer["TimeStamp"], outer["Nonce"]
    )
    assert isinstance(plain, str)
    return plain


def test_wechatpy_reads_a_text() -> None:
    reply = deserialize_reply(opened(passive.text("您好 <&]]> 🙂")))
    assert isinstance(reply, TextReply)
    assert (reply.content, reply.target, reply.source) == ("您好 <&]]> 🙂", "zhangwei", CORP)


def test_a_text_is_cut_between_characters() -> None:
    for words, kept in (("字" * 683, "字" * 682), ("a" * 2046 + "🙂", "a" * 2046), ("a" * 2048, "a" * 2048)):
        reply = deserialize_reply(opened(passive.text(words)))
        assert isinstance(reply, TextReply)
        assert reply.content == kept


def test_a_button_gets_new_words() -> None:
    inner = Xml.fromstring(opened(passive.update_button("已选择：退款")))
    assert inner.findtext("MsgType") == "update_button"
    assert inner.findtext("Button/ReplaceName") == "已选择：退款"


class Clock:
    now = 1767196800.0 - 3600  # 2025-12-31 23:00 in China

    def __call__(self) -> float:
        return self.now


def test_a_person_is_greeted_once_a_day() -> None:
    clock = Clock()
    greeted = Greeted(clock)
    assert greeted.due("hr", "lina", "e1")
    greeted.done("hr", "lina", "e1")
    assert greeted.due("hr", "lina", "e1"), "the same event again: its answer was lost"
    assert not greeted.due("hr", "lina", "e2")
    assert greeted.due("it", "lina", "e2")
    assert greeted.due("hr", "zhangwei", "e2")
    clock.now += 3601
    assert greeted.due("hr", "lina", "e3"), "a new day"
