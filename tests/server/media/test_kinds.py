"""What a file is taken for."""

import pytest

from server.media.kinds import extension_of, kind_of
from tests.server.media import files


@pytest.mark.parametrize(
    ("data", "mime_type", "found"),
    [
        (files.picture(), "application/octet-stream", ("picture", "png")),
        (files.picture(form="JPEG"), "", ("picture", "jpg")),
        (files.picture(form="GIF"), "", ("picture", "gif")),
        (files.picture(form="WEBP"), "", ("picture", "webp")),
        (files.picture(form="BMP"), "", ("picture", "bmp")),
        (files.picture(form="TIFF"), "", ("picture", "tif")),
        (b"BMW is a car", "image/bmp", ("document", "")),
        (files.recording(0.1), "application/octet-stream", ("recording", "amr")),
        (b"\x02#!SILK_V3", "audio/amr", ("recording", "silk")),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "", ("recording", "wav")),
        (b"ID3\x04", "", ("recording", "mp3")),
        (b"\xff\xfb\x90\x64", "audio/mpeg", ("recording", "mp3")),
        (b"\xff\xfe\x60\x4f", "text/plain", ("document", "")),
        (b"\x00\x00\x00\x20ftypM4A ", "audio/mp4", ("recording", "m4a")),
        (b"\x00\x00\x00\x20ftypisom", "video/mp4", ("other", "")),
        (b"\x00\x00\x00\x18ftypheic", "image/heic", ("other", "")),
        (b"7z\xbc\xaf\x27\x1c", "", ("other", "")),
        (files.pdf("a"), "image/png", ("document", "")),
        (files.word("a"), "", ("document", "")),
        ("你好".encode(), "", ("document", "")),
    ],
)
def test_the_bytes_decide(data: bytes, mime_type: str, found: tuple[str, str]) -> None:
    assert kind_of(data, mime_type) == found


@pytest.mark.parametrize(
    ("name", "extension"),
    [("报价单.XLSX", "xlsx"), ("a.tar.gz", "gz"), ("README", ""), ("a.", ""), ("a.b c", ""), ("a.verylongone", "")],
)
def test_the_extension_of_a_name(name: str, extension: str) -> None:
    assert extension_of(name) == extension
