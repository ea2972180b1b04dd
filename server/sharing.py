"""Settings → answers shared between questions of the same meaning. Part of the composition, like ``compose.py``.

The rooms do not know each other: here the embedder of one becomes the vectors of the other.
"""

from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from server.budget import Budget
from server.cache.base import SemanticCache
from server.cache.calibrate import calibrate
from server.cache.calibration import calibration_wanted, load_calibration
from server.cache.semantic import InProcessSemanticCache, SemanticObserver
from server.llm.embedder import OptionalEmbedder
from server.llm.embeddings import HttpEmbedder
from server.settings import Settings

_SECONDS_PER_CALL: Final = 30.0
"""What a full call may take while calibrating, when nobody waits for an answer."""


@asynccontextmanager
async def semantic_cache(settings: Settings, observer: SemanticObserver) -> AsyncIterator[SemanticCache | None]:
    """The cache for assistants with ``semantic_cache``, or ``None`` where there are none.

    Raises:
        ValueError: if one of them has it without a calibration that proves enough for the embeddings in use. The
            message begins with the field and says what to do.
    """
    assistant = calibration_wanted(settings.assistants)
    if not assistant:
        yield None
        return
    semantic = settings.cache.semantic
    embedder = _embedder(settings, f"assistants.{assistant}.semantic_cache needs")
    try:
        calibration = load_calibration(assistant, semantic, embedder.identity)
        yield InProcessSemanticCache(
            OptionalEmbedder(embedder, settings.embeddings[semantic.embeddings].budget_seconds),
            threshold=calibration.threshold,
            dimension=calibration.dimension,
            entries=semantic.entries,
            ttl_seconds=semantic.ttl_seconds,
            observer=observer,
        )
    finally:
        await embedder.aclose()


def check_semantic_cache(settings: Settings) -> None:
    """Reads the calibration, where one is wanted.

    Raises:
        ValueError: as :func:`semantic_cache`.
    """
    assistant = calibration_wanted(settings.assistants)
    if assistant:
        embedder = _embedder(settings, f"assistants.{assistant}.semantic_cache needs")
        load_calibration(assistant, settings.cache.semantic, embedder.identity)


async def calibrate_file(settings: Settings, file: Path, now: datetime) -> str:
    """Calibrates the semantic cache with an operator's own questions; see ``server/cache/question_log.py``.

    Raises:
        ValueError: if a setting or the file cannot be used, or the file proves too little.
        ProviderError: if the embeddings cannot be reached.
    """
    embedder = _embedder(settings, "calibrating needs")
    size = settings.embeddings[settings.cache.semantic.embeddings].batch_size

    async def vectors(texts: Sequence[str]) -> "list[array[float]]":
        return await embedder.embed_all(texts, Budget(_SECONDS_PER_CALL * (1 + len(texts) // size)))

    try:
        return await calibrate(file, vectors, embedder.identity, settings.cache.semantic, now)
    finally:
        await embedder.aclose()


def _embedder(settings: Settings, who_needs: str) -> HttpEmbedder:
    name, field = settings.cache.semantic.embeddings, "cache.semantic.embeddings"
    if not name:
        raise ValueError(f"{field}: {who_needs} one; name an entry of `embeddings`")
    if name not in settings.embeddings:
        known = ", ".join(sorted(settings.embeddings)) or "none"
        raise ValueError(f"{field}: there is no {name!r} in `embeddings`; there are {known}")
    try:
        return HttpEmbedder(name, settings.embeddings[name])
    except ValueError as error:
        raise ValueError(f"embeddings.{name}.{error}") from error
