"""When a call is tried again, and how long after. Pure.

Two layers, each with its own half, so that tries do not multiply: gRPC itself repeats
UNAVAILABLE at once (``_options.py``); this module waits where the service said how
long (``RetryInfo`` above zero).
"""

from weconverse.errors import WeConverseError

MAX_CALLS = 4
"""How often one call is made at most, the first time included. A service that says "in a moment"
for longer than that is telling its caller something else."""

SPREAD = 0.2
"""A wait is made longer by up to this share, so that callers that were sent away together do not return together."""


def pause_before_retry(error: WeConverseError, *, calls: int, remaining: float, chance: float) -> float | None:
    """How long to wait before the next try, in seconds; ``None`` to give up.

    Args:
        error: how the last try ended.
        calls: how often the call was made so far, from 1.
        remaining: seconds until the deadline of the whole.
        chance: a random number in [0, 1).
    """
    if not error.retryable or not error.retry_after or calls >= MAX_CALLS:
        return None
    pause = error.retry_after * (1.0 + SPREAD * chance)
    return pause if pause < remaining else None


def backoff(tries: int, chance: float) -> float:
    """How long to wait before a broken stream is taken up again: 0.1 s, doubling to 1 s, at random down to half.

    Args:
        tries: how often that was tried since the last event, from 0.
        chance: a random number in [0, 1).
    """
    return float(min(1.0, 0.1 * 2 ** min(tries, 8)) * (0.5 + 0.5 * chance))
