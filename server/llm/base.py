"""What every model backend looks like from inside the service, and how it can fail.

A backend is a :class:`Provider`: one method that takes a :class:`Prompt` and gives
:class:`Chunk` values. HTTP, gRPC, a router over several providers and the scripted
model of the demonstration are all the same shape, so they can stand in front of one
another.
"""

import enum
from collections.abc import AsyncGenerator
from typing import Final, Protocol

import msgspec

from server.budget import Budget
from server.domain import FinishReason, Usage


class Role(enum.Enum):
    """Who speaks in a prompt."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Image(msgspec.Struct, frozen=True):
    """A picture in a prompt: its bytes, or where the backend can fetch it."""

    mime_type: str
    data: bytes = b""
    uri: str = ""
    """An ``https`` address; empty when there are bytes."""


class Message(msgspec.Struct, frozen=True):
    """One message of a prompt."""

    role: Role
    text: str
    images: tuple[Image, ...] = ()
    """Pictures that belong to it. A prompt with pictures only goes to models that take them."""


class Prompt(msgspec.Struct, frozen=True):
    """What a model is asked. ``None`` leaves a parameter out of the request."""

    model: str
    """The name of a model in the settings of this service, not the vendor's."""
    messages: tuple[Message, ...]
    """Oldest first; the last one is the person's."""
    temperature: float | None = None
    max_output_tokens: int | None = None
    request_id: str = ""
    """Identifies the logical request in the backend's logs; the same for every attempt."""
    user: str = ""
    """A pseudonym of the person, for the backend's own limits and for ours. Never a raw identifier."""
    fallbacks: tuple[str, ...] = ()
    """Where to go on when ``model`` fails, in order of preference: names like ``model``."""
    caller: str = ""
    """The calling service, for its limits; empty on an open loopback."""
    conversation: str = ""
    """The conversation's identifier, which callers choose and keep free of personal data."""
    patient: bool = False
    """Nobody watches the text arrive, so this may wait some milliseconds to share a call with others."""
    aside: bool = False
    """Only helps a turn to an answer, as a classifier's question does: whoever counts turns does not count it."""
    via: tuple[str, ...] = ()
    """The servers that passed this on, nearest last; what stands in one of them is a loop."""


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a reply: everything that had arrived when the provider last looked.

    Several tokens that arrive together are one chunk, not several: passing them on
    together is what makes streams cheap.
    """

    text: str = ""
    reasoning: str = ""
    """What the model thought aloud; never part of the reply."""
    finish: FinishReason | None = None
    """Set on exactly one chunk, the last of a complete reply: STOP, LENGTH or PROVIDER_BLOCKED, and
    from another WeConverse server whatever that one gave."""
    usage: Usage | None = None
    """Set at most once, with ``finish``, where the backend counts tokens."""
    model: str = ""
    """The route that answers, set on the first chunk and with ``finish``."""
    restart: bool = False
    """The reply so far is void, thoughts included: this chunk begins it anew. It has text, so that
    what was shown is never replaced by nothing."""


class Provider(Protocol):
    """A model backend."""

    def generate(self, prompt: Prompt, budget: Budget) -> AsyncGenerator[Chunk, None]:
        """Generates one reply.

        An async generator: whoever iterates closes it (``contextlib.aclosing``), which
        closes the connection to the backend. The last chunk has ``finish``; a generator
        that ends without one is a defect of the provider, because a reply that was cut
        must raise ``INCOMPLETE``.

        Raises:
            ProviderError: with the class of what went wrong. Nothing else, but for
                cancellation.
        """
        ...

    async def aclose(self) -> None:
        """Closes connections. Calls under way fail."""
        ...


class Backend(Provider, Protocol):
    """One model at one vendor over one wire: a single attempt with a single key.

    Which key, how often and what to do when it fails is decided in ``server/routing``.
    Between two calls a backend keeps its connections, and what it learnt of the model that holds for
    every later call: parameters that it refuses (``manners.py``), its tokeniser, its tensors. Nothing of
    a prompt, and nothing of a person.
    """

    def generate(self, prompt: Prompt, budget: Budget, key: str = "") -> AsyncGenerator[Chunk, None]:
        """As :meth:`Provider.generate`; ``key`` authorises this call, and is empty where none is needed."""
        ...


class ErrorClass(enum.Enum):
    """What went wrong, as far as it matters for what to do next."""

    TRANSIENT = "transient"
    """Connection trouble or a server error: the same backend may work in a moment."""
    OVERLOADED = "overloaded"
    """The backend has no capacity now; another one is better than waiting."""
    RATE_LIMIT = "rate_limit"
    """A temporary limit of the account; ``retry_after`` may say how long."""
    QUOTA = "quota"
    """Money or a plan has run out; waiting does not help."""
    AUTH = "auth"
    """The key is wrong or may not do this."""
    CONTENT = "content"
    """The backend refuses the content; sending it to another vendor is a policy decision."""
    CONTEXT = "context"
    """The prompt is longer than the model's window."""
    BAD_REQUEST = "bad_request"
    """The backend cannot read the request; the same request fails again."""
    NOT_FOUND = "not_found"
    """No such model or endpoint."""
    TIMEOUT = "timeout"
    """Connecting, the first text, a gap between chunks or the whole took too long."""
    INCOMPLETE = "incomplete"
    """The stream ended without a finish reason, or reported an error midway."""


RETRYABLE = frozenset(
    {
        ErrorClass.TRANSIENT,
        ErrorClass.OVERLOADED,
        ErrorClass.RATE_LIMIT,
        ErrorClass.TIMEOUT,
        ErrorClass.INCOMPLETE,
    }
)
"""The classes for which a second attempt can help, as long as no text was passed on."""


NO_MODEL_TAKES_PICTURES: Final = "media"
"""The ``code`` of a ``BAD_REQUEST`` when a prompt has pictures that none of its models takes."""

ROUTE_LOOP: Final = "ROUTE_LOOP"
"""The ``code`` of a ``BAD_REQUEST`` when servers stand in front of one another in a circle."""


class ProviderError(Exception):
    """A model backend failed.

    ``summary`` is in the words of this service and may stand in any log line. ``detail`` also has
    what the backend said, whose texts can hold paths, prompts and account names: it is for an
    operator who asks for it, and must never reach a caller. ``str`` gives the summary.
    """

    def __init__(
        self,
        kind: ErrorClass,
        summary: str,
        *,
        said: str = "",
        model: str = "",
        status: int | None = None,
        code: str = "",
        retry_after: float | None = None,
    ) -> None:
        """Args: what went wrong in words that quote nobody, what the backend or a library that read its
        answer said of it, the HTTP or gRPC status, the backend's own code, seconds to wait if it said so.
        """
        super().__init__(f"{kind.value}: {summary}")
        self.kind = kind
        self.summary = summary
        self.said = said
        self.model = model
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.attempts = 1
        """How many calls were made before this error was given up on; set by the router."""
        self.text_passed_on = False
        """Whether text had been handed out before the failure; set by the router."""

    @property
    def detail(self) -> str:
        """The summary, and the backend's own words behind it."""
        return f"{self.summary}: {self.said}" if self.said else self.summary


class LimitReached(ProviderError):
    """A limit of this service, not of a backend, keeps the call from being made."""

    def __init__(self, scope: str, limit: str, retry_after: float, *, model: str = "") -> None:
        """Args: whose limit it is (``model``, ``quota_group``, ``person``, ``caller`` or ``total``), what it
        allows, in words such as ``50 requests per minute``, and seconds until this call would be let through.
        """
        super().__init__(
            ErrorClass.RATE_LIMIT, f"{scope}: {limit}", model=model, code=f"limit.{scope}", retry_after=retry_after
        )
        self.scope = scope
        self.limit = limit
