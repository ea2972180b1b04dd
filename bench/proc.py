"""What /proc says of a process and its children: CPU time, memory, threads."""

import os
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> list[int]:
    """The process and all below it that live now."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = children.read_text().split()
        except OSError:
            continue  # the thread has just ended
        for child in below:
            found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree in seconds, in steps of a clock tick (10 ms)."""
    return sum(_ticks(Path(f"/proc/{one}/stat")) for one in tree(pid)) / _TICK


def cpu_of_threads(pid: int) -> dict[int, float]:
    """Seconds of CPU time by thread."""
    return {int(task.name): _ticks(task / "stat") / _TICK for task in Path(f"/proc/{pid}/task").iterdir()}


def _ticks(stat: Path) -> int:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def resident_bytes(pid: int) -> int:
    """Resident memory of the tree; pages that two processes share count twice."""
    total = 0
    for one in tree(pid):
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * _PAGE
        except OSError:
            continue  # it has just ended
    return total
