"""The archive in which an engine hands out its tokeniser: what is needed is found, and nothing else gets through."""

import io
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.llm.engine.tokenizer_bundle import MAX_ENTRIES, UnusableBundle, read_bundle
from tests.server.llm.tiny_tokenizer import CHATML, archive, byte_level

WHOLE = archive()


def zipped(*files: tuple[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as target:
        for name, content in files:
            target.writestr(name, content)
    return buffer.getvalue()


def test_what_is_needed_is_found() -> None:
    bundle = read_bundle(WHOLE)
    assert bundle.tokenizer == byte_level().to_str().encode()
    assert bundle.template == CHATML
    assert bundle.specials == {"eos_token": "<|im_end|>"}


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config.json": {"chat_template": CHATML}},
        {"chat_template.json": {"chat_template": CHATML}},
        {
            "tokenizer_config.json": {
                "chat_template": [
                    {"name": "tool_use", "template": "x"},
                    {"name": "default", "template": CHATML},
                ]
            }
        },
    ],
)
def test_the_template_is_found_wherever_models_have_it(files: dict[str, Any]) -> None:
    assert read_bundle(archive(template=None, files=files)).template == CHATML


def test_special_tokens_may_have_a_file_of_their_own() -> None:
    files = {"special_tokens_map.json": {"bos_token": "<s>", "eos_token": "</s>"}}
    assert read_bundle(archive(files=files)).specials == {"bos_token": "<s>", "eos_token": "<|im_end|>"}


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"", "no archive"),
        (b"PK\x05\x06", "no archive"),
        (archive(files={"tokenizer.json": None}), r"no tokenizer\.json"),
        (archive(template=None), "no chat template"),
        (archive(files={"tokenizer_config.json": b"[1]"}), r"tokenizer_config\.json is no JSON object"),
        (archive(files={"tokenizer_config.json": b'{"a":' + b"[" * 100_000}), r"tokenizer_config\.json is no JSON"),
        (archive(template=None, files={"chat_template.jinja": b"\xff"}), "not UTF-8"),
        (archive(files={"tokenizer_config.json": b" " * (5 << 20)}), "may have"),
        (archive(files={"tokenizer_config.json": b" " * (3 << 20)}), "grows more than"),
        (zipped(*((f"{number}", b"") for number in range(MAX_ENTRIES + 1))), "files, and may have"),
        (zipped(*((f"{number}", b"") for number in range(2000))), "table of contents"),
        (zipped(("x" * 60_000, b""), ("y" * 60_000, b"")), "table of contents"),
        (zipped(("tokenizer.json", b"{}"), kind=zipfile.ZIP_LZMA), "unusual way"),
        (zipped(("tokenizer.json", b"{}"), kind=zipfile.ZIP_BZIP2), "unusual way"),
        (WHOLE[:-30], "no archive"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(packed: bytes, words: str) -> None:
    with pytest.raises(UnusableBundle, match=words):
        read_bundle(packed)


def test_two_files_of_one_name_are_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        packed = zipped(("tokenizer.json", b"{}"), ("tokenizer.json", b"[]"))
    with pytest.raises(UnusableBundle, match="two files of one name"):
        read_bundle(packed)


def test_names_that_lead_elsewhere_are_names_like_any_other() -> None:
    packed = archive(files={"../../tokenizer.json": b"evil", "/etc/chat_template.jinja": b"evil"})
    assert read_bundle(packed) == read_bundle(WHOLE)


def test_a_size_that_lies_is_found_out() -> None:
    bomb = zipped(("tokenizer.json", b" " * (32 << 20)))
    # In the table of contents, which is what a reader goes by: 24 bytes into the entry.
    at = bomb.index(b"PK\x01\x02") + 24
    lying = bomb[:at] + struct.pack("<L", 1000) + bomb[at + 4 :]
    tracemalloc.start()
    with pytest.raises(UnusableBundle):
        read_bundle(lying)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@given(st.binary(max_size=300))
def test_whatever_comes_nothing_but_a_refusal_is_raised(packed: bytes) -> None:
    for data in (packed, packed + WHOLE, WHOLE + packed):
        with suppress(UnusableBundle):
            read_bundle(data)


@settings(max_examples=400)
@given(st.data())
def test_an_archive_that_was_changed_is_read_or_refused(data: st.DataObject) -> None:
    changed = bytearray(WHOLE)
    # Mostly in the headers, where it hurts.
    headers = len(WHOLE) - 600
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(headers, len(WHOLE) - 1), st.integers(0, len(WHOLE) - 1)))
        changed[place] = data.draw(st.integers(0, 255))
    with suppress(UnusableBundle):
        read_bundle(bytes(changed))
