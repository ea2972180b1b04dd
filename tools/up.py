"""The local stack of `make run`: server, local WeCom and adapter, until Ctrl-C.

With a model key in the environment the server uses that model, else the scripted one
that ships, and says so. Everything binds loopback; what it keeps is under `var/`.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from server.llm.presets import shipped_presets  # noqa: E402  # a script has to find the project first

VAR = ROOT / "var"
CONFIG = ROOT / "deploy" / "local"

START_SECONDS = 30.0
STOP_SECONDS = 4.0
"""Below the five seconds in which Ctrl-C shall have stopped everything."""


class Program(NamedTuple):
    """One program of the stack."""

    name: str
    ready: str
    ports: tuple[int, ...]


PROGRAMS = (
    Program("server", "http://127.0.0.1:9464/readyz", (50051, 9464)),
    Program("simulator", "http://127.0.0.1:8070/livez", (8070,)),
    Program("adapter", "http://127.0.0.1:9465/readyz", (8080, 9465)),
)


def model_environment(environ: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Settings for the model that the environment has a key for, and a sentence that says which.

    Each preset is looked for under the name that its key usually has, in the order of
    their file; one that needs no key, under ``PRESET_MODEL``. ``PRESET_BASE_URL`` and
    ``PRESET_MODEL``, such as ``DEEPSEEK_MODEL``, go before what the preset says.
    """
    for name, preset in shipped_presets().items():
        side, prefix = preset.http, name.upper()
        model = environ.get(f"{prefix}_MODEL", "")
        if side is None or not environ.get(preset.key_name or f"{prefix}_MODEL"):
            continue
        base_url = environ.get(f"{prefix}_BASE_URL", "")
        address, model = base_url or side.address, model or preset.example_model
        if not address or not model:
            continue
        settings = {"PRESET": name, "MODEL": model}
        if base_url:
            settings["BASE_URL"] = base_url
        if preset.key_name:
            settings["API_KEY"] = f"env:{preset.key_name}"
        which = f"{model} at {address} (from {preset.key_name or f'{prefix}_MODEL'})"
        return {f"WECONVERSE_SERVER__MODELS__DEFAULT__{key}": value for key, value in settings.items()}, which
    return {}, "the scripted demonstration model; set DEEPSEEK_API_KEY, or another of docs/models.md, for a real one"


def check_ports() -> None:
    """Ends with a clear sentence if a port is taken."""
    for program in PROGRAMS:
        for port in program.ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    sys.exit(
                        f"Port {port}, which {program.name} needs, is in use. Stop what listens there and try again."
                    )


def _die_with_parent() -> None:
    """Asks Linux to stop this child when the stack's process dies, however it dies."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def start(program: Program, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own, so that Ctrl-C reaches only this one."""
    log = (VAR / "log" / f"{program.name}.log").open("wb")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", program.name, "--config", str(CONFIG / f"{program.name}.toml")],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  # this program has one thread
        )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310  # a loopback address of ours
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def wait_until_ready(program: Program, process: subprocess.Popen[bytes]) -> None:
    """Waits for a program; ends with the last lines of its log if it does not come up."""
    deadline = time.monotonic() + START_SECONDS
    while not _answers(program.ready):
        if process.poll() is not None or time.monotonic() > deadline:
            log = VAR / "log" / f"{program.name}.log"
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{program.name} did not start. The end of {log.relative_to(ROOT)}:\n{tail}")
        time.sleep(0.05)


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Stops all programs together: politely, then not."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> int:
    check_ports()
    (VAR / "log").mkdir(parents=True, exist_ok=True)
    model, which = model_environment(os.environ)
    environment = {**model, "WECONVERSE_SERVER__GRPC__DRAIN_SECONDS": "2"}
    stopping = False

    def interrupted(signum: int, frame: object) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for program in PROGRAMS:
            processes.append(start(program, environment))
            wait_until_ready(program, processes[-1])
        print(
            f"""
  WeConverse is running.

    Chat as in WeCom      http://127.0.0.1:8070
    gRPC                  127.0.0.1:50051   (.venv/bin/python -m weconverse chat)
    Metrics               http://127.0.0.1:9464/metrics   http://127.0.0.1:9465/metrics
    Model                 {which}
    Logs and data         var/

  Ctrl-C stops everything.
""",
            flush=True,
        )
        while all(process.poll() is None for process in processes):
            time.sleep(0.5)
        dead = next(p.name for p, process in zip(PROGRAMS, processes, strict=True) if process.poll() is not None)
        print(f"{dead} has ended; its log is var/log/{dead}.log", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopping …", flush=True)
        return 0
    finally:
        stopping = True
        stop(processes)


if __name__ == "__main__":
    raise SystemExit(main())
