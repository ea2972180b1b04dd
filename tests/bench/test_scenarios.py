"""Every scenario runs with the product itself, and its answers are right; how fast is no matter here."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bench import profile, report
from bench.__main__ import SCENARIOS
from bench.rounds import Comparison, Outcome, Setting
from bench.subject import DRIVER_CORE, ROOT, Program, Subject


class Report(msgspec.Struct):
    conditions: dict[str, object]
    outcomes: list[Outcome]


@pytest.fixture(scope="module")
def setting() -> Iterator[Setting]:
    upstream, wecom = Subject("upstream", Program("bench.upstream")), Subject("wecom", Program("bench.wecom"))
    with upstream.started(core=DRIVER_CORE) as model, wecom.started(core=DRIVER_CORE) as api:
        yield Setting(1, 0.1, 0.01, model.addresses["http"], api.addresses["http"])


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_runs(name: str, setting: Setting) -> None:
    outcomes = list(SCENARIOS[name](setting))
    assert outcomes
    for outcome in outcomes:
        assert report.lines(outcome)
        if isinstance(outcome, Comparison):
            assert all(result.count > 0 for results in outcome.measured.results.values() for result in results)


def test_profile_names_stages(setting: Setting, capsys: pytest.CaptureFixture[str]) -> None:
    profile.run("miss", setting)
    printed = capsys.readouterr().out
    assert "CPU time in thread MainThread" in printed
    assert "server/turn/engine.py Engine.answer" in printed


def test_command_line_writes_a_report(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    ran = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--only", "idle", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    found = msgspec.json.decode(file.read_bytes(), type=Report)
    assert "grpcio" in found.conditions
    assert [outcome.scenario for outcome in found.outcomes] == ["idle", "idle"]
