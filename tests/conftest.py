"""What holds for every test."""

import signal


def pytest_sessionstart() -> None:
    """Lets Ctrl-C mean Ctrl-C for the programs that tests start.

    A shell that runs this in the background has it ignored, and children inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
