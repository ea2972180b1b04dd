"""Recordings as WAV, which every service that transcribes takes. WeCom records AMR, which hardly one does."""

import io
import wave
from typing import BinaryIO, Final

import av  # optional: only a service that transcribes starts a process that loads this

from server.media.job import CannotRead, Sound

RATE: Final = 16_000
"""Samples a second. Speech models work with so many."""

_DEMUXERS: Final = {"amr": "amr", "flac": "flac", "m4a": "mov", "mp3": "mp3", "ogg": "ogg", "wav": "wav"}
"""Who reads what, by extension. Nobody is looked for: behind the mark of an MP3 may be a playlist, and FFmpeg would
fetch what that names."""


def read_recording(file: BinaryIO, extension: str, max_seconds: int) -> Sound:
    """The first ``max_seconds`` of a recording.

    Raises:
        CannotRead: ``damaged`` if there is no sound in it, ``unsupported`` if nobody reads that kind.
    """
    if extension not in _DEMUXERS:
        raise CannotRead("unsupported")
    sound = io.BytesIO()
    left = max_seconds * RATE
    # Written as it comes: a recording of eight minutes is 15 MiB, and copies of it would be what takes the memory.
    with wave.open(sound, "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        try:
            with av.open(file, mode="r", format=_DEMUXERS[extension], metadata_errors="ignore") as container:
                resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
                for frame in container.decode(audio=0):
                    for piece in resampler.resample(frame):
                        count = min(piece.samples, left)
                        writer.writeframesraw(memoryview(piece.planes[0])[: count * 2])
                        left -= count
                    if not left:
                        break
        except (av.FFmpegError, IndexError, ValueError):
            pass  # a recording that was cut short says what it says
        if left == max_seconds * RATE:
            raise CannotRead("damaged")
    return Sound(sound.getvalue())
