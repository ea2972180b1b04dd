"""``python -m adapter --config FILE [--check]``."""

import sys

from adapter.app import plan, serve
from adapter.settings import Settings
from program.run import Program, run

PROGRAM = Program(
    name="adapter",
    summary="Translates WeCom into the contract of the service, and back.",
    prefix="WECONVERSE_ADAPTER",
    settings=Settings,
    log=lambda settings: settings.log,
    plan=plan,
    serve=serve,
)

if __name__ == "__main__":
    sys.exit(run(PROGRAM))
