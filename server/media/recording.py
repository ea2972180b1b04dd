"""Recordings as WAV, which every service that transcribes takes. WeCom records AMR, which hardly one does."""

import io
import wave
from typing import BinaryIO, Final

from server.media.job import CannotRead, Sound

RATE: Final = 16_000
"""Samples a second. Speech models work with so many."""


def read_recording(file: BinaryIO, max_seconds: int) -> Sound:
    """The first ``max_seconds`` of a recording.

    Raises:
        CannotRead: ``damaged`` if there is no sound in it.
    """
    import av  # optional: only a service that transcribes needs it

    samples = io.BytesIO()
    most = max_seconds * RATE * 2
    try:
        with av.open(file, mode="r", metadata_errors="ignore") as container:
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            for frame in container.decode(audio=0):
                for piece in resampler.resample(frame):
                    samples.write(bytes(piece.planes[0])[: piece.samples * 2])
                if samples.tell() >= most:
                    break
    except (av.FFmpegError, IndexError, ValueError):
        # A recording that was cut short says what it says.
        if not samples.tell():
            raise CannotRead("damaged") from None
    if not samples.tell():
        raise CannotRead("damaged")
    return Sound(_wav(samples.getvalue()[:most]))


def _wav(samples: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(samples)
    return file.getvalue()
