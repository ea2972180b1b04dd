"""The load generator: ``python -m bench.load`` reads one job as JSON from stdin and prints its result.

Every answer is checked; the first wrong one ends the job with an error.
"""

import subprocess
import sys

import msgspec

from bench import jobs, load_grpc, load_http, place
from bench.subject import DRIVER_CORE, Program, process

_GRACE_SECONDS = 120.0


class LoadFailed(Exception):
    """A job did not run to its end, or an answer was wrong. The text is that of the load generator."""


def run(job: jobs.Job) -> jobs.Result:
    """Runs a job in a process of its own, on the core of the drivers.

    Raises:
        LoadFailed: if an answer was wrong or missing.
    """
    with process(Program("bench.load"), core=DRIVER_CORE, announces=True, errors=subprocess.PIPE) as child:
        try:
            out, errors = child.communicate(msgspec.json.encode(job), timeout=job.seconds + _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            raise LoadFailed("the job did not end in time") from None
        if child.returncode:
            raise LoadFailed(errors.decode(errors="replace")[-2000:])
    return msgspec.json.decode(out, type=jobs.Result)


async def _work(job: jobs.Job) -> jobs.Result:
    match job:
        case jobs.Converse():
            return await load_grpc.converse(job)
        case jobs.Callbacks():
            return await load_http.callbacks(job)
        case jobs.WholeWay():
            return await load_http.whole_way(job)
        case jobs.Acknowledge():
            return await load_http.acknowledge(job)
        case jobs.Hold():
            return await load_grpc.hold(job)
        case jobs.Bubbles():
            return await load_http.bubbles(job)


async def _main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=jobs.Job)
    result = await _work(job)
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    place.run(_main())
