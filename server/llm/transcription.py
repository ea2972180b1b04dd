"""Any server with an OpenAI-style ``/audio/transcriptions``, over HTTP."""

import time
from collections.abc import Callable
from typing import Final

import aiohttp
import msgspec
import structlog
from yarl import URL

from server.budget import Budget
from server.llm.base import ErrorClass, ProviderError
from server.llm.base_address import call_address, check_base_url, check_secrecy
from server.llm.failure_lines import log_failure
from server.llm.failures import failure_in_stream
from server.llm.http_call import HttpOrigin, Outgoing
from server.settings import ModelSettings, SpeechSettings

_log = structlog.get_logger(__name__)

MAX_ANSWER_BYTES: Final = 1 << 20
_ATTEMPTS: Final = 2
"""A connection that was kept open may have been closed meanwhile, which shows when it is used again."""

_NAME: Final = "speech"


class _Answer(msgspec.Struct, frozen=True):
    text: str


_decode = msgspec.json.Decoder(_Answer).decode


class HttpTranscriber:
    """Has recordings transcribed. Fits ``server.media.base.Transcriber``."""

    def __init__(self, settings: SpeechSettings, *, wall_clock: Callable[[], float] = time.time) -> None:
        """Args: POSIX time, for the dates in ``Retry-After``.

        Raises:
            ValueError: if ``base_url`` is not an address, or the key would be readable on its way there.
        """
        self._settings = settings
        check_base_url(settings.base_url)
        # What people say is as much of a secret as the key.
        check_secrecy(settings.base_url, plain_http=settings.plain_http)
        self._url = URL(call_address(settings.base_url, "v1", "audio/transcriptions"), encoded=True)
        self._key = settings.api_key.reveal()
        seconds = settings.seconds
        # The budget of each call is what counts; these only keep it from taking longer than the setting.
        patience = ModelSettings(
            connect_seconds=min(5.0, seconds),
            first_token_seconds=seconds,
            idle_seconds=seconds,
            total_seconds=seconds,
            max_connections=settings.max_calls,
        )
        self._origin = HttpOrigin(_NAME, patience, wall_clock=wall_clock)

    async def transcribe(self, recording: bytes, extension: str, budget: Budget) -> str | None:
        """See :meth:`server.media.base.Transcriber.transcribe`."""
        try:
            return (await self._text(recording, extension, budget)).strip()
        except ProviderError as error:
            log_failure(_log.warning, "transcription_failed", error)
            return None

    async def aclose(self) -> None:
        """Closes connections. Calls under way fail."""
        await self._origin.aclose()

    async def _text(self, recording: bytes, extension: str, budget: Budget) -> str:
        request = await self._request(recording, extension)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = await self._origin.fetch(request, budget, MAX_ANSWER_BYTES)
                break
            except ProviderError as error:
                if error.kind is not ErrorClass.TRANSIENT or error.status or attempt == _ATTEMPTS:
                    raise
        try:
            return _decode(answer).text
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise failure_in_stream(answer) from None

    async def _request(self, recording: bytes, extension: str) -> Outgoing:
        form = aiohttp.FormData()
        form.add_field("file", recording, filename=f"recording.{extension}", content_type=f"audio/{extension}")
        form.add_field("model", self._settings.model)
        form.add_field("response_format", "json")
        if self._settings.language:
            form.add_field("language", self._settings.language)
        payload = form()
        headers = {"Content-Type": payload.headers["Content-Type"]}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return Outgoing(self._url, await payload.as_bytes(), headers, self._key)
