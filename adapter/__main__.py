"""``python -m adapter --config FILE [--check | --recall ACCOUNT/MSGID]``."""

import sys

from adapter.app import plan, serve
from adapter.application.recall import recall
from adapter.settings import Settings
from program.run import Errand, Program, run

PROGRAM = Program(
    name="adapter",
    summary="Translates WeCom into the contract of the service, and back.",
    prefix="WECONVERSE_ADAPTER",
    settings=Settings,
    log=lambda settings: settings.log,
    plan=plan,
    serve=serve,
    errands=(
        Errand(
            flag="--recall",
            metavar="ACCOUNT/MSGID",
            help="take back a message that an application sent in the last 24 hours, from everybody who got it, and "
            "end; the log names it (message_sent)",
            run=recall,
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(run(PROGRAM))
