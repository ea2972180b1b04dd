"""The envelope against everybody else's: Tencent's samples, recorded vectors, wechatpy."""

import base64
import hashlib
import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wechatpy.enterprise.crypto import WeChatCrypto
from wechatpy.exceptions import InvalidSignatureException

from adapter.crypto import Envelope, EnvelopeError, aes_key, decrypt_media, encrypt_media, media_key, sign

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data/vectors/wecom_vectors.json").read_text())
GENUINE = VECTORS["official"] + VECTORS["positive"]


def by_id(vector: dict[str, Any]) -> str:
    return str(vector["id"])


def plaintext(vector: dict[str, Any]) -> bytes:
    if "plaintext" in vector:
        return vector["plaintext"].encode()
    recipe = vector["plaintext_recipe"]
    character, count = recipe["repeat"]
    return (recipe["json_prefix"] + character * count + recipe["then"] + recipe["json_suffix"]).encode()


def envelope(vector: dict[str, Any]) -> Envelope:
    return Envelope(vector["token"], vector["encoding_aes_key"], vector["receiveid"])


@pytest.mark.parametrize("vector", GENUINE, ids=by_id)
def test_opens_what_others_sealed(vector: dict[str, Any]) -> None:
    opened = envelope(vector).open(vector["msg_signature"], vector["timestamp"], vector["nonce"], vector["encrypt"])
    assert opened == plaintext(vector)
    if "plaintext_sha256" in vector:
        assert hashlib.sha256(opened).hexdigest() == vector["plaintext_sha256"]


@pytest.mark.parametrize("vector", GENUINE, ids=by_id)
def test_seals_byte_for_byte_like_others(vector: dict[str, Any]) -> None:
    head = bytes.fromhex(vector["random16_hex"]) if "random16_hex" in vector else vector["random16_ascii"].encode()
    sealed = envelope(vector).seal(plaintext(vector), vector["timestamp"], vector["nonce"], head)
    assert sealed.encrypted == vector["encrypt"]
    assert sealed.msg_signature == vector["msg_signature"]
    assert (sealed.timestamp, sealed.nonce) == (vector["timestamp"], vector["nonce"])


@pytest.mark.parametrize("vector", VECTORS["negative"], ids=by_id)
def test_refuses_what_must_be_refused(vector: dict[str, Any]) -> None:
    assert vector["must_reject"]
    if vector["reason"] == "configuration":
        with pytest.raises(ValueError, match=r"^encoding_aes_key: ") as caught:
            envelope(vector)
        assert vector["encoding_aes_key"] not in str(caught.value)
        return
    with pytest.raises(EnvelopeError) as refused:
        envelope(vector).open(vector["msg_signature"], vector["timestamp"], vector["nonce"], vector["encrypt"])
    codes = {
        "signature": {-40001},
        "receiveid": {-40005},
        "padding": {-40007},
        "base64": {-40010},
    }
    assert refused.value.code in codes.get(vector["reason"], {-40007, -40008})


@pytest.mark.parametrize("vector", VECTORS["tolerance"], ids=by_id)
def test_takes_the_strict_side_where_either_is_right(vector: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError):
        envelope(vector).open(vector["msg_signature"], vector["timestamp"], vector["nonce"], vector["encrypt"])


def test_refusals_look_alike() -> None:
    seen = set()
    for vector in VECTORS["negative"]:
        if vector["reason"] != "configuration":
            with pytest.raises(EnvelopeError) as refused:
                envelope(vector).open(vector["msg_signature"], vector["timestamp"], vector["nonce"], vector["encrypt"])
            seen.add(str(refused.value))
    assert seen == {"the envelope was refused"}


def test_keys_with_other_unused_bits_are_the_same_key() -> None:
    vector = next(vector for vector in GENUINE if vector["id"] == "K01")
    for key in (vector["encoding_aes_key"], vector["equivalent_encoding_aes_key"]):
        opened = Envelope(vector["token"], key, vector["receiveid"]).open(
            vector["msg_signature"], vector["timestamp"], vector["nonce"], vector["encrypt"]
        )
        assert opened == plaintext(vector)


@pytest.mark.parametrize(
    "key", ["", "a" * 42, "a" * 44, "a" * 42 + "!", "a" * 42 + "=", "a" * 42 + "é", "a" * 43 + "\n"]
)
def test_wrong_keys_are_named(key: str) -> None:
    with pytest.raises(ValueError, match="encoding_aes_key"):
        Envelope("token", key, "ww")


@pytest.mark.parametrize("token", ["", "a" * 33, "with space", "字", "a\n"])
def test_wrong_tokens_are_named(token: str) -> None:
    with pytest.raises(ValueError, match=r"^token: "):
        Envelope(token, "a" * 43, "ww")


@pytest.mark.parametrize("foreign", ["é", "\ud800", "", "A" * 40])
def test_foreign_signatures_are_refused_not_crashed_on(foreign: str) -> None:
    box = Envelope("token", "a" * 43, "ww")
    sealed = box.seal(b"x", "1", "2")
    with pytest.raises(EnvelopeError) as refused:
        box.open(foreign, "1", "2", sealed.encrypted)
    assert refused.value.code == -40001
    with pytest.raises(EnvelopeError):
        box.open(sealed.msg_signature, foreign, "2", sealed.encrypted)


def test_signed_text_that_is_no_base64_is_refused() -> None:
    box = Envelope("token", "a" * 43, "ww")
    good = box.seal(b"x", "1", "2").encrypted
    for bad in (
        good + "\n",
        " " + good,
        good[:-1],
        good + "=",
        "字" + good,
        good + good,
        good.replace("A", "-", 1) + "-",
    ):
        with pytest.raises(EnvelopeError):
            box.open(sign("token", "1", "2", bad), "1", "2", bad)


def test_sealing_twice_gives_two_texts() -> None:
    box = Envelope("token", "a" * 43, "ww")
    assert box.seal(b"x", "1", "2").encrypted != box.seal(b"x", "1", "2").encrypted


# --- wechatpy as the referee -------------------------------------------------------------

TOKENS = st.text("abcXYZ0189", min_size=1, max_size=32)
KEYS = st.binary(min_size=32, max_size=32).map(lambda raw: base64.b64encode(raw).decode().rstrip("="))
RECEIVERS = st.text("wx0123456789abcdef", max_size=18)
NUMBERS = st.integers(0, 2**40).map(str)
NONCES = st.text("abcXYZ0189", min_size=1, max_size=20)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)


@settings(max_examples=150, deadline=None)
@given(TOKENS, KEYS, RECEIVERS, NUMBERS, NONCES, TEXTS)
def test_wechatpy_opens_what_we_seal(token: str, key: str, receiver: str, time: str, nonce: str, text: str) -> None:
    sealed = Envelope(token, key, receiver).seal(text.encode(), time, nonce)
    body = f"<xml><ToUserName>x</ToUserName><Encrypt>{sealed.encrypted}</Encrypt></xml>"
    opened = WeChatCrypto(token, key, receiver).decrypt_message(body, sealed.msg_signature, time, nonce)
    assert (opened if isinstance(opened, bytes) else opened.encode()) == text.encode()


@settings(max_examples=150, deadline=None)
@given(TOKENS, KEYS, RECEIVERS, NUMBERS, NONCES, TEXTS)
def test_we_open_what_wechatpy_seals(token: str, key: str, receiver: str, time: str, nonce: str, text: str) -> None:
    box, body = Envelope(token, key, receiver), WeChatCrypto(token, key, receiver).encrypt_message(text, nonce, time)
    encrypted, signature = (body.split(f"<{tag}><![CDATA[")[1].split("]]>")[0] for tag in ("Encrypt", "MsgSignature"))
    assert box.open(signature, time, nonce, encrypted) == text.encode()
    assert sign(token, time, nonce, encrypted) == signature
    # The URL check is the same envelope; both refuse the same altered signature.
    assert box.verify_url(signature, time, nonce, encrypted) == text.encode()
    altered = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    with pytest.raises(EnvelopeError):
        box.open(altered, time, nonce, encrypted)
    with pytest.raises(InvalidSignatureException):
        WeChatCrypto(token, key, receiver).decrypt_message(body, altered, time, nonce)


# --- Media -------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["media"], ids=by_id)
def test_media(vector: dict[str, Any]) -> None:
    key, data = media_key(vector["aes_key_b64"]), base64.b64decode(vector["cipher_b64"])
    plain = decrypt_media(data, key)
    assert hashlib.sha256(plain).hexdigest() == vector["plain_sha256"]
    assert plain == base64.b64decode(vector["plain_b64"])
    assert encrypt_media(plain, key) == data
    assert plain == official_decrypt(data, vector["aes_key_b64"])


def official_decrypt(data: bytes, aeskey: str) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its way of importing websockets is deprecated
        decrypted: bytes = importlib.import_module("aibot.crypto_utils").decrypt_file(data, aeskey)
    return decrypted


@pytest.mark.parametrize("aeskey", ["", "short", "a" * 44, "!" * 43, "a" * 43 + "=="])
def test_media_keys_are_checked(aeskey: str) -> None:
    with pytest.raises(EnvelopeError) as refused:
        media_key(aeskey)
    assert refused.value.code == -40004


def test_media_with_wrong_key_or_cut_short() -> None:
    data = encrypt_media(b"x" * 100, bytes(32))
    for bad in (b"", data[:-1], data[:-32]):
        with pytest.raises(EnvelopeError):
            decrypt_media(bad, bytes(32))
    with pytest.raises(EnvelopeError):
        decrypt_media(data, aes_key("b" * 43))
    with pytest.raises(EnvelopeError):
        decrypt_media(data, b"short")
    with pytest.raises(EnvelopeError):
        encrypt_media(data, b"short")
