"""The pair of settings files that ships for an edge node."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from program.settings import load
from server.settings import Settings

ROOT = Path(__file__).parents[2]
EDGE = ROOT / "deploy" / "edge"


@pytest.mark.parametrize("name", ["centre", "edge"])
def test_a_file_that_ships_can_be_started(name: str, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    checked = subprocess.run(
        [sys.executable, "-m", "server", "--config", str(EDGE / f"{name}.toml"), "--check"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients'}", "WECONVERSE_EDGE_KEY": "secret-1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr
    assert "would serve gRPC" in checked.stdout
    assert "secret-1" not in checked.stdout + checked.stderr


def test_the_two_fit_together() -> None:
    environment = {"WECONVERSE_EDGE_KEY": "secret-1"}
    centre = load(Settings, EDGE / "centre.toml", environment, "X")
    edge = load(Settings, EDGE / "edge.toml", environment, "X")
    model = edge.models["default"]
    assert (model.protocol, model.target) == ("weconverse", centre.grpc.address)
    assert model.assistant in centre.assistants
    assert edge.node_id == centre.grpc.callers[0].name
    assert model.api_key.reveal() == "secret-1"
    assert edge.grpc.address != centre.grpc.address
    assert edge.operations.address != centre.operations.address
