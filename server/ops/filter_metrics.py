"""What the filter counts: hits, lists that were loaded, and lists that were refused."""

from collections.abc import Callable, Mapping

from prometheus_client import Counter, Gauge, Histogram

from server.filter.entries import Action, Direction


class FilterMetrics:
    """Fits ``server.filter.base.FilterObserver`` and ``server.filter.moderation.ModerationObserver``."""

    def __init__(
        self, counters: Mapping[str, Counter], gauges: Mapping[str, Gauge], histograms: Mapping[str, Histogram]
    ) -> None:
        """Args: by the names of ``server.ops.metrics.CATALOGUE``."""
        self._hits_total = counters["filter_hits_total"]
        self._hits: dict[tuple[Direction, str, Action], Callable[[], None]] = {}
        self._entries = gauges["lexicon_entries"].set
        self._seconds = gauges["lexicon_load_seconds"].set
        self._moderation = histograms["moderation_seconds"]
        self.lexicon_refused = counters["lexicon_refused_total"].inc

    def hit(self, direction: Direction, tag: str, action: Action) -> None:
        """A word was found."""
        count = self._hits.get((direction, tag, action))
        if count is None:
            labels = (str(direction.name).lower(), tag, action.name.lower())
            count = self._hits[direction, tag, action] = self._hits_total.labels(*labels).inc
        count()

    def moderated(self, direction: Direction, outcome: str, seconds: float) -> None:
        """The external moderation was asked."""
        self._moderation.labels(str(direction.name).lower(), outcome).observe(seconds)

    def lexicon_loaded(self, entries: int, seconds: float) -> None:
        """Lists were read and are used from now on."""
        self._entries(entries)
        self._seconds(seconds)
