"""How large a share can be that was seen in a sample: the exact bound of Clopper and Pearson. Pure."""

import math


def upper_bound(seen: int, total: int, confidence: float) -> float:
    """The largest share that ``seen`` out of ``total`` does not contradict, one-sided.

    If the true share were larger, so few would be seen with a probability below
    ``1 - confidence``. 1 where there is no sample.

    Raises:
        ValueError: if the numbers are no sample, or ``confidence`` is not between 0 and 1.
    """
    if not 0 <= seen <= total or not 0 < confidence < 1:
        raise ValueError("must be 0 <= seen <= total and 0 < confidence < 1")
    if seen == total:
        return 1.0
    low, high = seen / total, 1.0
    # The tail falls as the share grows; each step halves where it can cross.
    while low < (middle := (low + high) / 2) < high:
        if _at_most(seen, total, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def sample_needed(seen: int, share: float, confidence: float) -> int:
    """The smallest sample in which ``seen`` prove that the true share is at most ``share``.

    Raises:
        ValueError: if ``seen`` is negative, or ``share`` or ``confidence`` not between 0 and 1.
    """
    if seen < 0 or not 0 < share < 1 or not 0 < confidence < 1:
        raise ValueError("must be 0 <= seen, 0 < share < 1 and 0 < confidence < 1")
    low, high = seen, seen + 1
    while _at_most(seen, high, share) > 1 - confidence:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if _at_most(seen, middle, share) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(seen: int, total: int, share: float) -> float:
    """The probability of ``seen`` or fewer. In logarithms, because the parts are beyond what a float holds."""
    ways = math.lgamma(total + 1)
    hit, miss = math.log(share), math.log1p(-share)
    return math.fsum(
        math.exp(ways - math.lgamma(count + 1) - math.lgamma(total - count + 1) + count * hit + (total - count) * miss)
        for count in range(seen + 1)
    )
