"""Writes the reference pages from the definitions that the programs themselves use.

`docs/configuration.md` from the settings, `docs/errors.md` from the contract,
`docs/metrics.md` from the metric catalogues, `docs/models.md` from the presets, `docs/doors.md` from the table of what
each door shows. `--check` fails when a page is stale.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

GENERATED = "<!-- Made by `make docs`; change the definitions, not this page. -->\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def configuration() -> str:
    """Every setting of every program."""
    from adapter.settings import Settings as AdapterSettings
    from program.settings import describe
    from server.settings import Settings as ServerSettings
    from simulator.settings import Settings as SimulatorSettings

    lines = [
        "# Configuration\n",
        GENERATED,
        "Settings are TOML, one file a program (`--config FILE`); `--check` validates and prints them, secrets hidden. The environment",
        "overrides the file: `grpc.address` of the server as `WECONVERSE_SERVER__GRPC__ADDRESS`. A secret is a reference, `env:NAME` or",
        "`file:PATH`; anything else is taken for the secret itself. A key that does not exist is an error that names the nearest one.",
        "`*` stands for a name of your own.\n",
    ]
    for name, prefix, settings in (
        ("server", "WECONVERSE_SERVER", ServerSettings),
        ("adapter", "WECONVERSE_ADAPTER", AdapterSettings),
        ("simulator", "WECONVERSE_SIMULATOR", SimulatorSettings),
    ):
        lines += [
            f"## `python -m {name}` (`{prefix}__…`)\n",
            "| Setting | Type | Default | Meaning |",
            "|---|---|---|---|",
        ]
        for entry in describe(settings):
            kind = f"{entry.type} {entry.constraints}".strip()
            default = f"`{_cell(entry.default)}`" if entry.default else "required"
            lines.append(f"| `{entry.path}` | {_cell(kind)} | {default} | {_cell(entry.description)} |")
        lines.append("")
    return "\n".join(lines)


def _reasons() -> Iterator[tuple[str, int, str]]:
    """Names, numbers and comments of the values of ErrorReason, read from the contract."""
    text = (ROOT / "proto/weconverse/v1/error_reason.proto").read_text(encoding="utf-8")
    body = text[text.index("enum ErrorReason") :]
    for comment, name, number in re.findall(r"((?:  //[^\n]*\n)+)  ([A-Z_]+) = (\d+);", body):
        if int(number):
            yield name, int(number), " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())


def errors() -> str:
    """Every reason an error of the service can have."""
    lines = [
        "# Errors\n",
        GENERATED,
        "Every error of the service carries `google.rpc.ErrorInfo` with `domain` `weconverse.v1` and one of these reasons; where waiting",
        "helps it also carries `google.rpc.RetryInfo`. The Python client raises one class a reason (`weconverse.errors`). New reasons may",
        "be added: fall back to the status code for one that you do not know.\n",
        "| Reason | Status | Retry | Metadata | What it means |",
        "|---|---|---|---|---|",
    ]
    for name, _, comment in _reasons():
        status = re.search(r"`([A-Z_]+)`; ([^.]*)\.", comment)
        metadata = re.search(r"Metadata:\s*([^.]*)\.", comment)
        meaning = comment[: status.start()].strip() if status else comment
        lines.append(
            f"| `{name}` | {f'`{status.group(1)}`' if status else ''} | {_cell(status.group(2)) if status else ''} "
            f"| {_cell(metadata.group(1)) if metadata else '–'} | {_cell(meaning)} |"
        )
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every metric of the server and of the adapter."""
    from prometheus_client import CollectorRegistry

    from adapter.metrics import Metrics as AdapterMetrics
    from server.ops.metrics import CATALOGUE, PREFIX

    lines = [
        "# Metrics\n",
        GENERATED,
        "Prometheus text at `/metrics` of each program's operations port (9464 and 9465). No label names a person, a conversation or a",
        "turn. The usual `process_…` and `python_…` figures stand beside these.\n",
        "## Server\n",
        "| Metric | Kind | Labels | Meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{PREFIX}{entry.name}` | {entry.kind} | {', '.join(f'`{label}`' for label in entry.labels) or '–'} | {_cell(entry.help)} |"
        for entry in CATALOGUE
    ]
    registry = CollectorRegistry()
    AdapterMetrics(registry)
    lines += ["", "## Adapter\n", "| Metric | Kind | Meaning |", "|---|---|---|"]
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines.append(f"| `{name}` | {family.type} | {_cell(family.documentation)} |")
    return "\n".join(lines) + "\n"


def models() -> str:
    """Every vendor of models that there is a preset for."""
    from tools.models_page import models as page

    return page(GENERATED)


def doors() -> str:
    """What each door of WeCom shows."""
    from tools.doors_page import doors as page

    return page(GENERATED)


PAGES = {
    "configuration.md": configuration,
    "doors.md": doors,
    "errors.md": errors,
    "metrics.md": metrics,
    "models.md": models,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is stale")
    check = parser.parse_args().check
    stale = []
    for name, make in PAGES.items():
        path, text = ROOT / "docs" / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"stale, run `make docs`: {', '.join(stale)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
