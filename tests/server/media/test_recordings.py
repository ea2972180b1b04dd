"""Recordings as WAV."""

import io
import wave

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
    sound = read_recording(io.BytesIO(files.recording(1.0, form, codec, rate)), 60)
    assert samples(sound.data) == pytest.approx(RATE, rel=0.1)


def test_a_long_one_is_cut() -> None:
    sound = read_recording(io.BytesIO(files.recording(3.0)), 1)
    assert samples(sound.data) == RATE


def test_half_of_one_says_what_it_says() -> None:
    whole = files.recording(2.0)
    sound = read_recording(io.BytesIO(whole[: len(whole) // 2]), 60)
    assert samples(sound.data) == pytest.approx(RATE, rel=0.1)


@pytest.mark.parametrize("data", [b"", b"#!AMR\n", b"RIFF\x24\0\0\0WAVE", b"no sound at all" * 100])
def test_without_sound_it_is_damaged(data: bytes) -> None:
    with pytest.raises(CannotRead) as refused:
        read_recording(io.BytesIO(data), 60)
    assert refused.value.problem == "damaged"
