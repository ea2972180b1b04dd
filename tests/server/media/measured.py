"""What reading one file costs: ``python measured.py FILE COMMAND…`` runs the command over it, and prints that.

A process of its own, because the system counts the memory of a child from its fork: what
starts the reader must be smaller than the reader is.
"""

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    file, *command = sys.argv[1:]
    answer = f"{file}.outcome"
    began = time.monotonic()
    reader, writer = os.pipe()
    streams = [(os.POSIX_SPAWN_OPEN, 0, file, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, writer, 1)]
    child = os.posix_spawn(command[0], command, os.environ, file_actions=streams)
    os.close(writer)
    with os.fdopen(reader, "rb") as source, Path(answer).open("wb") as target:
        while piece := source.read(1 << 16):
            target.write(piece)
    _, status, usage = os.wait4(child, 0)
    figures = {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - began,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
