"""What the package offers: listed, documented, and nothing beside it."""

import importlib
import inspect
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.message import Message

import weconverse
from weconverse.testing import FakeService

CLIENTS = Path(__file__).parents[2] / "clients"
MODULES = ["", ".admin", ".blocking", ".channel", ".cli", ".client", ".errors", ".stream", ".testing"]


def test_the_front_door_is_what_is_listed() -> None:
    offered = {
        name
        for name, value in vars(weconverse).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert offered == set(weconverse.__all__)
    assert weconverse.__all__ == sorted(weconverse.__all__)
    assert set(weconverse.errors.__all__) - set(weconverse.__all__) == {"ERROR_DOMAIN"}


def public(value: Any, prefix: str) -> list[tuple[str, Any]]:
    """Every public thing of a module or a class of ours."""
    found = []
    for name, member in vars(value).items():
        home = getattr(member, "__module__", "")
        if name.startswith("_") or home.startswith("weconverse.v1") or home.partition(".")[0] not in {"weconverse", ""}:
            continue
        target = member.fget if isinstance(member, property) else member
        if inspect.isclass(target) and not issubclass(target, Message):
            found += [(f"{prefix}.{name}", target), *public(target, f"{prefix}.{name}")]
        elif inspect.isfunction(target):
            found.append((f"{prefix}.{name}", target))
    return found


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented(name: str) -> None:
    module = importlib.import_module(f"weconverse{name}")
    assert module.__doc__
    things = public(module, module.__name__)
    assert things or name == ""
    assert [path for path, thing in things if not (thing.__doc__ or "").strip()] == []


def test_importing_it_starts_nothing_heavy() -> None:
    code = "import sys, weconverse; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout
    assert "aiohttp" not in out
    assert "server" not in out


def test_the_wheel_holds_one_name(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=CLIENTS,
        check=True,
        capture_output=True,
        timeout=60,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"weconverse", "weconverse_client-0.1.0.dist-info"}
    ours = {str(path.relative_to(CLIENTS)) for path in (CLIENTS / "weconverse").rglob("*.py*") if path.suffix != ".pyc"}
    assert {name for name in names if name.startswith("weconverse/")} == ours | {"weconverse/py.typed"}
    assert {"weconverse/v1/conversation_pb2_grpc.pyi", "weconverse/provider/v1/provider_pb2.py"} <= set(names)

    # From the wheel itself, and without anything of this checkout.
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); import weconverse.testing; print(weconverse.__file__)"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
    )
    assert ran.stdout.startswith(str(wheel))


async def test_the_tour_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (CLIENTS / "README.md").read_text(encoding="utf-8")
    tour = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    async with FakeService({"讲个故事": "从前……"}) as fake:
        code = tour.replace("127.0.0.1:50051", fake.target).replace("asyncio.run(main())", "")
        names: dict[str, Any] = {}
        exec(compile(code, "README.md", "exec"), names)
        await names["main"]()
    assert capsys.readouterr().out.splitlines()[:2] == ["你说:你好", "1 "]


def test_the_errors_of_the_readme_are_the_errors() -> None:
    readme = (CLIENTS / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in readme.splitlines() if line.startswith("| `")]
    told = {left.strip(" `"): {name.strip(" `") for name in right.split(",") if name.strip()} for left, right in rows}
    tree = {
        kind.__name__: {leaf.__name__ for leaf in kind.__subclasses__()}
        for kind in weconverse.WeConverseError.__subclasses__()
    }
    assert told == tree
