"""One call to one model with one key: let in by limits and breaker, and accounted for however it ends."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from server.budget import Budget
from server.domain import Usage
from server.llm.base import Chunk, ErrorClass, Prompt, ProviderError
from server.routing.base import Admission
from server.routing.breaker import COUNTED, BreakerOpen, counts_as_connecting
from server.routing.input_estimate import Length
from server.routing.keys import Key
from server.routing.model import Model
from server.routing.verdicts import NO_ROOM_FOR_TEXT, NOTHING_VISIBLE

_UNBILLED: Final = frozenset(
    {
        ErrorClass.OVERLOADED,
        ErrorClass.RATE_LIMIT,
        ErrorClass.QUOTA,
        ErrorClass.AUTH,
        ErrorClass.CONTEXT,
        ErrorClass.BAD_REQUEST,
        ErrorClass.NOT_FOUND,
    }
)
"""Refusals that come in the place of a reply: the request counts, its tokens do not."""


class Attempt:
    """A call under way, as the router sees it."""

    __slots__ = ("_called_at", "_key", "_model", "_rough", "_ticket", "begun", "chunks", "final", "settled", "written")

    def __init__(self, model: Model, key: Key, rough: int, ticket: int, called_at: float) -> None:
        self._model = model
        self._key = key
        self._rough = rough
        self._ticket = ticket
        self._called_at = called_at
        self.chunks: AsyncGenerator[Chunk, None]
        self.begun = False
        """Whether anything of a reply has come."""
        self.settled = False
        """Whether it counts: it may have reached its backend."""
        self.written = 0
        """Characters of text and thoughts so far; kept by whoever iterates."""
        self.final: Chunk | None = None
        """The last chunk of a complete reply; set by whoever iterates."""

    def began(self) -> None:
        """The first text or thought has come."""
        self.begun = True
        model = self._model
        model.observer.first_text(model.name, model.clock() - self._called_at)
        model.breaker.alive(self._ticket)

    def succeeded(self, admission: Admission, final: Chunk) -> None:
        """The reply is complete."""
        model, usage = self._model, final.usage
        self._settle(admission, usage)
        if usage is not None:
            model.paid(usage, self._rough)
        model.breaker.leave(self._ticket, model.clock(), failed=False)
        model.succeeded(self._key, self._called_at)

    def failed(self, admission: Admission, error: ProviderError, budget: Budget) -> None:
        """The backend failed."""
        model, now = self._model, self._model.clock()
        error.model = error.model or model.name
        connecting = counts_as_connecting(error, anything_arrived=self.begun)
        if error.kind in _UNBILLED and not self.begun:
            self._settle(admission, Usage())
        elif not connecting:
            self._settle(admission, None)
        failed = self._speaks_against(error, budget, now)
        model.breaker.leave(self._ticket, now, failed=failed, connecting=connecting)
        model.failed(self._key, error, now, self._called_at)

    def _speaks_against(self, error: ProviderError, budget: Budget, now: float) -> bool | None:
        """Whether the failure is one of the model's health; ``None`` if that cannot be said."""
        if error.kind is ErrorClass.TIMEOUT and budget.spent() and now - self._called_at < self._model.patience:
            return None  # it was the caller who had too little time
        # An empty reply is an odd answer, but an answer: a caller who allows for few tokens must not stop everybody.
        return error.kind in COUNTED and error.code not in (NOTHING_VISIBLE, NO_ROOM_FOR_TEXT)

    def left(self, admission: Admission) -> None:
        """The caller went away, or something broke that no backend may let through."""
        self._settle(admission, None)
        self._model.breaker.leave(self._ticket, self._model.clock(), failed=None)

    def _settle(self, admission: Admission, usage: Usage | None) -> None:
        self.settled = True
        admission.settle(usage, written_characters=self.written)


@asynccontextmanager
async def attempting(
    model: Model,
    key: Key,
    prompt: Prompt,
    length: Length,
    budget: Budget,
    patience: Budget,
    *,
    again: bool,
    counted: bool,
) -> AsyncIterator[Attempt]:
    """A call for the duration of the block, in which ``chunks`` are read up to the last one, ``final``.

    Args:
        budget: of the call; ``patience`` bounds the wait for a free place before it.
        again: whether the same turn has called this model before.
        counted: whether an earlier call of the turn counts as its request.

    Raises:
        LimitReached, BreakerOpen: the call was not made.
        ProviderError: it failed; thrown on from inside of the block, with all accounts settled.
    """
    facts = model.facts(prompt, key, length.tokens, counted=counted)
    async with model.limiter.admitted(facts, patience) as admission:
        now = model.clock()
        ticket = model.breaker.enter(now)
        if ticket is None:
            raise BreakerOpen(model.name, model.breaker.wait(now))
        model.retries.called(now, again=again)
        attempt = Attempt(model, key, length.compared, ticket, now)
        outcome = ""
        try:
            chunks = model.backend.generate(model.addressed(prompt), budget, key.secret.reveal())
            async with aclosing(chunks) as attempt.chunks:
                yield attempt
            if attempt.final is None:
                raise ProviderError(ErrorClass.INCOMPLETE, "the backend ended without a finish reason")
            outcome = "ok"
            attempt.succeeded(admission, attempt.final)
        except ProviderError as error:
            outcome = error.kind.value
            attempt.failed(admission, error, budget)
            raise
        finally:
            if not outcome:
                attempt.left(admission)
            model.observer.attempt_ended(model.name, outcome or "cancelled", model.clock() - now)
