"""Recordings as WAV."""

import io
import wave

import av.logging
import pytest

from server.media.job import CannotRead
from server.media.recording import RATE, read_recording
from tests.server.media import files


def samples(data: bytes) -> int:
    with wave.open(io.BytesIO(data)) as recording:
        assert (recording.getnchannels(), recording.getsampwidth(), recording.getframerate()) == (1, 2, RATE)
        return recording.getnframes()


@pytest.mark.parametrize(
    ("form", "codec", "rate"),
    [
        ("amr", "libopencore_amrnb", 8000),
        ("wav", "pcm_s16le", 8000),
        ("mp3", "libmp3lame", 16_000),
        ("ogg", "libopus", 48_000),
    ],
)
def test_it_is_as_long_as_it_was(form: str, codec: str, rate: int) -> None:
    sound = read_recording(io.BytesIO(files.recording(1.0, form, codec, rate)), form, 60)
    assert samples(sound.data) == pytest.approx(RATE, rel=0.1)


def test_a_long_one_is_cut() -> None:
    sound = read_recording(io.BytesIO(files.recording(3.0)), "amr", 1)
    assert samples(sound.data) == RATE


def test_half_of_one_says_what_it_says() -> None:
    whole = files.recording(2.0)
    sound = read_recording(io.BytesIO(whole[: len(whole) // 2]), "amr", 60)
    assert samples(sound.data) == pytest.approx(RATE, rel=0.1)


@pytest.mark.parametrize(
    ("data", "extension"),
    [(b"", "mp3"), (b"#!AMR\n", "amr"), (b"RIFF\x24\0\0\0WAVE", "wav"), (b"no sound at all" * 100, "m4a")],
)
def test_without_sound_it_is_damaged(data: bytes, extension: str) -> None:
    with pytest.raises(CannotRead) as refused:
        read_recording(io.BytesIO(data), extension, 60)
    assert refused.value.problem == "damaged"


@pytest.mark.parametrize("mark", [b"ID3\x04\0\0\0\0\0\0", b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)])
@pytest.mark.parametrize(
    "playlist",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n"],
)
def test_a_playlist_behind_the_mark_of_a_recording_is_not_even_looked_for(mark: bytes, playlist: str) -> None:
    data = mark + playlist.format("http://127.0.0.1:9/a.ts").encode() + b"\n" * 2000
    av.logging.set_level(av.logging.DEBUG)
    try:
        with av.logging.Capture(local=False) as logs, pytest.raises(CannotRead):
            read_recording(io.BytesIO(data), "mp3", 60)
    finally:
        av.logging.set_level(None)
    assert {said for _, said, _ in logs} <= {"mp3", "mp3float", ""}
    assert not any("m3u8" in text or "ffconcat" in text for _, _, text in logs)


def test_a_kind_that_nobody_reads_is_told_so() -> None:
    with pytest.raises(CannotRead) as refused:
        read_recording(io.BytesIO(b"#!SILK_V3"), "silk", 60)
    assert refused.value.problem == "unsupported"
