"""Settings → what reads the media of messages. Part of the composition, like ``compose.py``.

The rooms do not know each other: here the transcriber of one becomes the ears of the other.
"""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.llm.transcription import HttpTranscriber
from server.media.base import MediaObserver, MediaReader
from server.media.reading import Reading
from server.settings import Settings


@asynccontextmanager
async def media_reader(settings: Settings, observer: MediaObserver) -> AsyncIterator[MediaReader]:
    """What reads pictures, documents and, where somebody listens, recordings.

    Raises:
        ValueError: if recordings cannot be sent where the settings say. The message begins with the field.
    """
    transcriber = _transcriber(settings)
    try:
        yield Reading(settings.media, settings.speech, transcriber, observer)
    finally:
        if transcriber is not None:
            await transcriber.aclose()


def check_speech(settings: Settings) -> None:
    """Raises :class:`ValueError` as :func:`media_reader`; opens nothing."""
    _transcriber(settings)


def _transcriber(settings: Settings) -> HttpTranscriber | None:
    speech = settings.speech
    if not speech.base_url:
        return None
    # Looked for, and not loaded: it is only needed in the processes that read.
    if speech.convert == "wav" and importlib.util.find_spec("av") is None:
        raise ValueError(
            "speech.convert: needs the package av: pip install -r requirements-extras.lock; "
            'or set it to "none" for a service that takes AMR'
        )
    try:
        return HttpTranscriber(speech)
    except ValueError as error:
        raise ValueError(f"speech.{error}") from error
