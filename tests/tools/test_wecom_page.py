"""The page about WeCom: each line of its tables names tests that exist, or says no."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "wecom.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_TABLE_HEAD = "| WeCom | What we do | Shown by |"


def rows() -> list[str]:
    """The lines of the tables that list what is handled."""
    found: list[str] = []
    inside = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line == _TABLE_HEAD:
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|---"):
            found.append(line)
    return found


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_there_are_tables() -> None:
    assert len(rows()) > 100


@pytest.mark.parametrize("row", rows())
def test_a_line_names_tests_that_exist_or_says_no(row: str) -> None:
    shown = row.strip("|").split("|")[-1]
    cited = _TEST.findall(shown)
    assert cited or "**no**" in shown, "name a test as `tests/file.py::test_name`, or say **no** and why"
    for path, name in cited:
        assert name in functions_of(path), f"{path} has no {name}"
