"""``python -m server --config FILE``, with ``--check`` or an errand such as ``--probe``; ``--help`` lists them all."""

import sys

from program.run import Errand, Program, run
from server.compose import calibrate_cache, plan, probe_models, rehearse, replay_undeliverable, serve
from server.settings import Settings

PROGRAM = Program(
    name="server",
    summary="The conversation service: memory, durable turns, caching and model calls, over gRPC.",
    prefix="WECONVERSE_SERVER",
    settings=Settings,
    log=lambda settings: settings.log,
    plan=plan,
    serve=serve,
    rehearse=rehearse,
    errands=(
        Errand(
            flag="--replay-undeliverable",
            metavar="ACCOUNT",
            help="make undeliverable turns owed again, of one account (channels/{channel}/accounts/{account}) "
            "or of all, and end; the server must be stopped",
            run=replay_undeliverable,
        ),
        Errand(
            flag="--probe",
            metavar="MODEL",
            help="ask every entry of `models`, or one, a question with each of its keys, say what came back, and end; "
            "exit 1 if one does not answer",
            run=probe_models,
        ),
        Errand(
            flag="--calibrate-cache",
            metavar="FILE",
            help="list pairs of logged questions for labelling, or choose from labelled ones the similarity from which "
            "an answer may be shared, and end",
            run=calibrate_cache,
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(run(PROGRAM))
