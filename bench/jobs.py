"""What the load generator is asked to do, and what it reports: values that cross a process border."""

import msgspec

from bench.envelope import Door


class Answers(msgspec.Struct, frozen=True):
    """What a right answer looks like."""

    tokens: int
    marked: bool = True
    """Whether it names the question; an echo does not."""
    messages: int | None = None
    """How many messages the prompt must have had; ``None`` does not ask."""
    completed: bool = False
    """Whether a stream must have ``started`` and ``completed`` around its text."""


class _Job(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pids: dict[str, int]
    """Whose CPU time to read at the two ends of the window, by name."""
    seconds: float
    """The length of the window."""
    concurrency: int


class Converse(_Job, frozen=True, kw_only=True):
    """``Converse`` or ``StreamConverse`` calls in a closed loop."""

    target: str
    stream: bool
    answers: Answers
    assistant: str
    connections: int = 4
    warmup_seconds: float = 0.3
    warmup_calls: int = 1
    """The least number of calls each worker makes before the window opens."""
    distinct_questions: int = 0
    """How many different questions there are; 0: every call has its own."""
    fresh_conversations: bool = True
    """Whether every call begins a conversation; otherwise each worker has one that goes on."""
    bypass_memory: bool = False


class Callbacks(_Job, frozen=True, kw_only=True):
    """Callbacks in a closed loop: as many as were sealed, or until the window closes."""

    door: Door
    count: int
    events: bool = False
    """Whether to send events that nothing answers, instead of questions."""
    people: int = 0
    """How many people write; 0: every question has its own person."""


class WholeWay(_Job, frozen=True, kw_only=True):
    """Callbacks, and the wait until the fake WeCom API has seen every reply."""

    door: Door
    count: int
    wecom: str
    """Its address."""


class Acknowledge(_Job, frozen=True, kw_only=True):
    """Callbacks at a steady rate beside running streams; ``concurrency`` is the number of streams."""

    door: Door
    rate: float
    """Callbacks a second, sent on time whether or not earlier ones were answered."""
    target: str
    assistant: str
    answers: Answers


class Hold(_Job, frozen=True, kw_only=True):
    """Opens ``concurrency`` streams that stay silent, and says what they cost in memory."""

    target: str
    kind: str
    """``attach``: channel instances; ``follow``: listeners of turns that wait for their model."""
    assistant: str


class Bubbles(_Job, frozen=True, kw_only=True):
    """``concurrency`` people whose answers grow over a bot's long connection; counts its frames."""

    platform: str
    """The fake long connection, as ``host:port``."""


Job = Converse | Callbacks | WholeWay | Acknowledge | Hold | Bubbles


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What happened within the window."""

    count: float
    """How many were done; of streams also the part of those that were under way at either end of the window."""
    seconds: float
    cpu: dict[str, float] = {}
    """CPU seconds of each subject's program."""
    own_cpu: float = 0.0
    """CPU seconds of the load generator; near ``seconds`` it was the limit itself."""
    latencies: dict[str, float] = {}
    """Seconds: ``mean``, ``p50``, ``p99``, ``max``."""
    bytes_before: int = 0
    bytes_after: int = 0
    """Resident memory of the subject before and with the held streams."""
    streams: int = 0
    """Streams that ran to their end beside the callbacks."""

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def cpu_each(self) -> float:
        """CPU seconds for one, over all programs of the subject."""
        return sum(self.cpu.values()) / self.count
