"""The table that a run prints: the aim beside the result."""

from bench.rounds import Comparison, Figure, Outcome

HEAD = (
    f"{'scenario':<30} {'subject':<16} {'per second':>11} {'CPU µs':>9} {'busy':>5}  "
    f"{'ratio':>6} {'by CPU':>6} {'aim':>5}"
)
LEGEND = """\
ratio: throughput relative to the baseline named below it; by CPU: the same from CPU time alone, which a shared machine
disturbs less. CPU µs: of the subject's whole process tree, for one call, callback or token. busy: how much of its core
the subject used; below 0.9 something else held it up. Aims that are missed are marked with !."""


def lines(outcome: Outcome) -> list[str]:
    """What is printed of an outcome."""
    return _comparison(outcome) if isinstance(outcome, Comparison) else [_figure(outcome)]


def _comparison(outcome: Comparison) -> list[str]:
    missed = outcome.aim is not None and outcome.ratio < outcome.aim
    aim = "" if outcome.aim is None else f"{outcome.aim:.1f}"
    found = f"{outcome.ratio:>6.2f} {outcome.cpu_ratio:>6.2f} {aim:>5}{' !' if missed else ''}"
    unit = " (a token)" if outcome.measured.tokens else ""
    return [
        f"{outcome.scenario:<30} {_measured(outcome, outcome.subject)}  {found}{unit}",
        f"{'':<30} {_measured(outcome, outcome.baseline)}",
    ]


def _measured(outcome: Comparison, name: str) -> str:
    return f"{name:<16} {outcome.rate(name):>11,.0f} {outcome.cpu(name) * 1e6:>9,.1f} {outcome.busy(name):>5.2f}"


def _figure(outcome: Figure) -> str:
    aim = "" if outcome.aim is None else f"  aim {'≥' if outcome.at_least else '≤'} {outcome.aim:,.0f} {outcome.unit}"
    mark = " !" if outcome.met is False else ""
    note = f"  ({outcome.note})" if outcome.note else ""
    digits = 2 if outcome.value < 10 else 0
    return f"{outcome.scenario:<30} {outcome.name:<36} {outcome.value:>9,.{digits}f} {outcome.unit}{aim}{mark}{note}"
