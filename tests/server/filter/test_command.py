"""The command line: lists are imported, looked at and tried, with exit codes for scripts."""

import json
from pathlib import Path

import pytest

from server.domain import Ask, Content, Turn, TurnName, TurnState
from server.filter.__main__ import main
from server.filter.list_files import read_list
from server.store.sqlite import open_sqlite

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "deploy/lexicons/example.csv"


def test_import_makes_one_list_and_tells_what_to_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("代開发票\n赌\n天气\n★\n代开发票\n")
    (tmp_path / "b.json").write_text('[{"word": "内部价", "action": "replace", "replacement": "活动价", "level": 3}]')
    output = tmp_path / "out.csv"
    code = main(["import", str(tmp_path / "a.txt"), str(tmp_path / "b.json"), "-o", str(output), "--tag", "ads"])
    told = capsys.readouterr().out
    assert code == 1
    assert "3 words of 6 lines" in told
    assert "1 lines that cannot be used:\n  a.txt:4: word: has no letter" in told
    assert "1 words of one character, which hit almost everything:\n  a.txt:2 赌" in told
    assert "a.txt:3 天气" in told
    assert "a.txt:5 代开发票 = a.txt:1 代開发票" in told
    rows = list(read_list(str(output)))
    assert [(row.word, row.kind.tag, row.kind.level, row.kind.replacement) for row in rows] == [
        ("代開发票", "ads", 0, ""),
        ("天气", "ads", 0, ""),
        ("内部价", "ads", 3, "活动价"),
    ]


def test_a_text_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("word,action,allow\n刷单,block,\n反刷单,,yes\n")
    assert main(["test", str(tmp_path), "--text", "印刷单位，刷-單，反刷单"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "folded: 印刷单位刷单反刷单",
        "1-3 刷单 [a] a.csv:2: not_a_word block",
        "5-8 刷单 [a] a.csv:2: meant block",
        "10-12 刷单 [a] a.csv:2: allowed block",
    ]
    assert main(["test", str(tmp_path), "--text", "印刷单位"]) == 0


def test_logged_texts_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("word,direction\n刷单,\n套现,output\n")
    texts = tmp_path / "texts.jsonl"
    lines = ["刷单，刷单", {"text": "套现"}, {"text": "套现", "direction": "output"}, "你好"]
    texts.write_text("\n\n".join(json.dumps(line) for line in lines))
    assert main(["dry-run", str(tmp_path / "a.csv"), "--texts", str(texts)]) == 1
    told = capsys.readouterr().out
    assert "2 of 4 texts are hit (50.0%)" in told
    assert "  2 刷单 [a] a.csv:2\n  1 套现 [a] a.csv:3\n" in told
    texts.write_text('{"txt": "x"}')
    assert main(["dry-run", str(tmp_path / "a.csv"), "--texts", str(texts)]) == 2
    assert "texts.jsonl:1: is neither" in capsys.readouterr().err


async def test_the_turn_store_is_read_while_it_is_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("刷单\n")
    path = tmp_path / "turns.db"
    async with open_sqlite(path) as store:
        ask = Ask(TurnName("c", "m1"), Content.of_text("刷单吗"), True, "default")
        await store.finish(Turn(ask.name, TurnState.SUCCEEDED, ask.input, 1.0, reply="不刷 单"), ask, ())
        assert main(["dry-run", str(tmp_path / "a.txt"), "--database", str(path)]) == 1
    assert "of 2 texts are hit" in capsys.readouterr().out
    assert main(["dry-run", str(tmp_path / "a.txt"), "--database", str(tmp_path / "a.txt")]) == 2


def test_the_example_is_a_list_without_faults(capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(EXAMPLE)])
    told = capsys.readouterr().out
    assert told.startswith("20 words")
    assert "cannot be used" not in told
    assert "folded" not in told


def test_what_cannot_be_read_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "gone.csv")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_patterns_are_tried_with_the_settings_of_the_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("re2", reason="google-re2 is an extra")
    (tmp_path / "a.txt").write_text("刷单\n")
    settings = tmp_path / "server.toml"
    settings.write_text(
        f"[filter]\nlists = ['{tmp_path / 'a.txt'}']\n[filter.patterns.order]\npattern = 'PO-\\d+'\naction = 'mask'\n"
    )
    assert main(["test", "--config", str(settings), "--text", "刷单PO-12"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "folded: 刷单po12",
        "0-2 刷单 [a] a.txt:1: meant",
        "2-7 PO-\\d+ [order] patterns.order: meant mask",
    ]
    texts = tmp_path / "texts.jsonl"
    texts.write_text('"PO-1 PO-2"\n')
    assert main(["dry-run", "--config", str(settings), "--texts", str(texts)]) == 1
    assert "  2 PO-\\d+ [order] patterns.order\n" in capsys.readouterr().out
    settings.write_text("[filter.patterns.order]\npattern = '^PO'\n")
    assert main(["test", "--config", str(settings), "--text", "PO"]) == 2
    assert capsys.readouterr().err.startswith("error: filter.patterns.order.pattern: has ^")
    settings.write_text("[filter.patterns.order]\npattern = 'PO'\nmax_characters = 201\n")
    assert main(["test", "--config", str(settings), "--text", "PO"]) == 2
    assert "filter.patterns.order.max_characters" in capsys.readouterr().err
    assert main(["test", "--text", "PO"]) == 2
    assert "no list is named" in capsys.readouterr().err
