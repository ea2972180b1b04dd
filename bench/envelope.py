"""Callbacks as WeCom makes them, sealed ahead of time (DOC 90968, 90238).

Written apart from the adapter's own sealing, so that the two check each other.
"""

import base64
import hashlib
import struct
from collections.abc import Iterable

import msgspec
from Crypto.Cipher import AES

from bench import raw_http


class Door(msgspec.Struct, frozen=True):
    """A callback address and what protects it."""

    address: str
    path: str
    corp_id: str
    agent_id: int
    token: str
    encoding_aes_key: str


def text_message(door: Door, user: str, text: str, number: int, time: int) -> str:
    """The inner XML of a message that ``user`` writes (DOC 90239)."""
    return (
        f"<xml><ToUserName><![CDATA[{door.corp_id}]]></ToUserName><FromUserName><![CDATA[{user}]]></FromUserName>"
        f"<CreateTime>{time}</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[{text}]]></Content>"
        f"<MsgId>{number}</MsgId><AgentID>{door.agent_id}</AgentID></xml>"
    )


def silent_event(door: Door, user: str, time: int) -> str:
    """The inner XML of an event that is acknowledged and needs no answer (DOC 90240)."""
    return (
        f"<xml><ToUserName><![CDATA[{door.corp_id}]]></ToUserName><FromUserName><![CDATA[{user}]]></FromUserName>"
        f"<CreateTime>{time}</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[unsubscribe]]></Event>"
        f"<EventKey><![CDATA[]]></EventKey><AgentID>{door.agent_id}</AgentID></xml>"
    )


def seal(door: Door, messages: Iterable[str], time: int) -> list[bytes]:
    """Whole HTTP requests, one for each message."""
    key = base64.b64decode(door.encoding_aes_key + "=")
    return [_request(door, key, message.encode(), str(time), str(number)) for number, message in enumerate(messages)]


def _request(door: Door, key: bytes, message: bytes, time: str, nonce: str) -> bytes:
    plain = b"0123456789abcdef" + struct.pack(">I", len(message)) + message + door.corp_id.encode()
    count = 32 - len(plain) % 32
    cipher = AES.new(key, AES.MODE_CBC, key[:16])
    encrypted = base64.b64encode(cipher.encrypt(plain + bytes([count]) * count)).decode()
    signature = hashlib.sha1("".join(sorted([door.token, time, nonce, encrypted])).encode()).hexdigest()
    body = (
        f"<xml><ToUserName><![CDATA[{door.corp_id}]]></ToUserName><Encrypt><![CDATA[{encrypted}]]></Encrypt>"
        f"<AgentID><![CDATA[{door.agent_id}]]></AgentID></xml>"
    )
    target = f"{door.path}?msg_signature={signature}&timestamp={time}&nonce={nonce}"
    return raw_http.request("POST", target, door.address, body.encode())
