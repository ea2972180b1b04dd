"""Starts real Triton servers, for `make test-triton`, which sets their environment up. `make test` passes by."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

PYTHON = os.environ.get("WECONVERSE_TRITON_PYTHON", "")
"""The interpreter of the environment in which Triton is installed."""

if not PYTHON:
    collect_ignore_glob = ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "triton: needs a real Triton server; runs in `make test-triton`")


class TritonServer(NamedTuple):
    target: str
    process_id: int
    """Of Triton itself; its models run in processes of their own."""


@contextmanager
def started(folder: Path) -> Iterator[TritonServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "triton.log"
    # Triton starts Python by itself and has to find the library of this one, not another that is about.
    libraries = subprocess.check_output(
        [PYTHON, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"], text=True
    ).strip()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [PYTHON, str(Path(__file__).with_name("serve.py")), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        found = _ready(process)
        assert found, log.read_text(errors="replace")[-4000:]
        yield TritonServer(f"127.0.0.1:{port}", int(found[1]))
    finally:
        # The models' processes outlive a server that was killed.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _ready(process: "subprocess.Popen[bytes]") -> list[bytes]:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(b"ready "):
            return line.split()
    return []


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with started(tmp_path_factory.mktemp("triton")) as server:
        yield server


@pytest.fixture
def own_triton(tmp_path: Path) -> Iterator[TritonServer]:
    """One that the test may kill."""
    with started(tmp_path) as server:
        yield server
