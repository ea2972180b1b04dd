"""What lists may say, in every format, and how each mistake is told."""

from pathlib import Path

import pytest

from server.filter.building import MAX_TAGS, Job, build, read_rows
from server.filter.entries import Action, Direction
from server.filter.list_files import find_lists, read_list
from server.filter.list_rows import ListError, Row, RowReader
from server.filter.variants import Variants


def rows_of(folder: Path, name: str, text: str | bytes, *, single_characters: bool = False) -> list[Row]:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_list(str(path), single_characters=single_characters))


def test_one_word_a_line(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "ads.txt", "\ufeff# our own\r\n\r\n 返現 \r\ncasino\n")
    assert [(row.line, row.word, row.folded, row.kind.tag, row.kind.boundary) for row in rows] == [
        (3, "返現", "返现", "ads", "word"),
        (4, "casino", "casino", "ads", "any"),
    ]


def test_allowed_phrases_have_a_file_of_their_own(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "city.allow.txt", "上海大学")
    assert row.kind.allows
    assert row.kind.tag == "city"


def test_csv_has_every_column(tmp_path: Path) -> None:
    text = (
        "# note\nWord,tag,level,boundary,direction,action,replacement,allow,variants\n"
        '"内部价",ads,7,any,output,replace,"活动价, 公开",no,内布价|nei bu jia\n'
        "反洗钱,,,,,,,yes,\n"
        "诈骗\n"
    )
    first, second, third = rows_of(tmp_path, "all.csv", text)
    kind = first.kind
    assert (kind.tag, kind.level, kind.boundary, kind.action) == ("ads", 7, "any", Action.REPLACE)
    assert (Direction(kind.direction), kind.replacement, kind.allows) == (Direction.OUTPUT, "活动价, 公开", False)
    assert first.variants == ("内布价", "nei bu jia")
    assert (second.kind.allows, second.kind.tag) == (True, "all")
    assert (third.line, third.kind.boundary, third.kind.action) == (5, "word", None)


def test_json_has_words_and_objects(tmp_path: Path) -> None:
    text = (
        '["赌博", {"word": "bet", "level": 3, "allow": false, "variants": ["b3t"]}, {"word": "反诈骗", "allow": true}]'
    )
    first, second, third = rows_of(tmp_path, "x.json", text)
    assert (first.line, first.folded, first.variants) == (1, "赌博", ())
    assert (second.kind.level, second.kind.allows, second.variants) == (3, False, ("b3t",))
    assert third.kind.allows


@pytest.mark.parametrize(
    ("name", "text", "line", "rule"),
    [
        ("a.txt", "赌博\n——\n", 2, "no letter, digit or Chinese character"),
        ("a.txt", "赌博\nⓐ\n", 2, "single character"),
        ("a.txt", "长" * 65, 1, "has 65 characters; 64 are allowed"),
        ("a.txt", "赌博\n".encode() + b"\xff", 2, "not UTF-8"),
        ("a.csv", "词,tag\n赌博,x\n", 1, "must name the columns"),
        ("a.csv", "tag\nx\n", 1, "must name the columns"),
        ("a.csv", "word,word\nx,y\n", 1, "must name the columns"),
        ("a.csv", "word,tag\n\n赌博,a,b\n", 3, "has 3 cells for 2 columns"),
        ("a.csv", 'word,tag\n"赌"博,a\n', 2, "is not CSV"),
        ("a.csv", "word,tag\n赌博,a b\n", 2, "tag: 'a b' is not"),
        ("a.csv", "word,level\n赌博,-1\n", 2, "level: '-1' is not a whole number from 0 to 100"),
        ("a.csv", "word,boundary\n赌博,none\n", 2, "boundary: 'none' is neither"),
        ("a.csv", "word,direction\n赌博,up\n", 2, "direction: 'up' is none of both, input, output"),
        ("a.csv", "word,action\n赌博,delete\n", 2, "action: 'delete' is none of pass, flag"),
        ("a.csv", f"word,replacement\n赌博,{'x' * 65}\n", 2, "replacement: has 65 characters"),
        ("a.csv", "word,allow\n赌博,maybe\n", 2, "allow: 'maybe' is none of"),
        ("a.csv", "word,variants\n赌博,+leet\n", 2, r"variants: '\+leet' is none of"),
        ("a.csv", "word,allow,variants\n赌博,yes,+repeats\n", 2, r"has no '\+repeats'"),
        ("a.json", '{"word": "x"}', None, "is not a JSON list"),
        ("a.json", '["赌博", 7]', 2, "neither a word nor an object"),
        ("a.json", '[{"word": "赌博", "tags": "x"}]', 1, "tags: there is no such field"),
        ("a.json", '[{"word": "赌博", "tag": null}]', 1, "tag: is neither a text nor a number"),
    ],
)
def test_mistakes_name_file_line_and_rule(
    tmp_path: Path, name: str, text: str | bytes, line: int | None, rule: str
) -> None:
    with pytest.raises(ListError, match=rule) as caught:
        rows_of(tmp_path, name, text)
    assert (caught.value.file, caught.value.line) == (name, line)
    assert str(caught.value).startswith(name if line is None else f"{name}:{line}: ")
    assert "赌博" not in str(caught.value)


def test_single_characters_are_taken_where_that_is_wanted(tmp_path: Path) -> None:
    assert [row.folded for row in rows_of(tmp_path, "a.txt", "赌", single_characters=True)] == ["赌"]


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.txt", "a.csv", ".hidden.txt", "notes.md", "c.json"):
        (tmp_path / name).write_text("")
    assert [Path(file.path).name for file in find_lists([str(tmp_path)])] == ["a.csv", "b.txt", "c.json"]
    assert len(find_lists([str(tmp_path), str(tmp_path / "b.txt")])) == 4


def test_places_that_are_no_lists(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ListError, match="cannot be read: No such file"):
        find_lists([str(tmp_path / "gone.txt")])
    with pytest.raises(ListError, match=r"is no word list; its name ends with none of \.txt"):
        find_lists([str(tmp_path / "notes.md")])
    with pytest.raises(ListError, match=r"folder\.txt: is not a regular file"):
        find_lists([str(tmp_path)])


def test_bounds_over_all_lists(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("赌博\n刷单\n")
    (tmp_path / "b.csv").write_text("word,tag\n" + "".join(f"词语{n:03d},t{n}\n" for n in range(MAX_TAGS)))
    paths = tuple(file.path for file in find_lists([str(tmp_path)]))
    with pytest.raises(ListError, match=r"^b\.csv:2: is word 3 with its variants; filter\.max_words is less"):
        read_rows(Job(paths, 2, single_characters=False))
    with pytest.raises(ListError, match=rf"^b\.csv:{MAX_TAGS + 1}: tag: is the {MAX_TAGS + 1}th"):
        read_rows(Job(paths, 1000, single_characters=False))


SOUNDS = {"旅": "lv", "行": "xing", "赌": "du", "博": "bo"}


def variants_of(fields: dict[str, str], *, sounds: bool = True) -> dict[str, str]:
    reader = RowReader("x.csv")
    made = Variants((lambda word: [SOUNDS.get(each, each) for each in word]) if sounds else None)
    return {row.folded: row.kind.boundary for row in made.of(reader.row(3, fields), reader)}


def test_variants_are_written_out_or_made() -> None:
    assert variants_of({"word": "赌博", "variants": "赌愽|du-bo|赌博"}) == {
        "赌博": "word",
        "赌愽": "word",
        "dubo": "any",
    }
    assert variants_of({"word": "赌博", "variants": "+pinyin"}) == {"赌博": "word", "dubo": "any"}
    assert variants_of({"word": "赌博", "variants": "+mixed"}) == {"赌博": "word", "赌bo": "any", "du博": "any"}
    assert set(variants_of({"word": "旅行", "variants": "+pinyin|+mixed"})) == {
        *("旅行", "lvxing", "luxing", "旅xing", "lv行", "lu行")
    }


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"word": "赌博", "variants": "——"}, "no letter"),
        ({"word": "赌博赌博赌博赌博赌", "variants": "+mixed"}, "up to 8 characters"),
    ],
)
def test_variants_that_cannot_be_made(fields: dict[str, str], rule: str) -> None:
    with pytest.raises(ListError, match=rule):
        variants_of(fields)


def test_sounds_need_their_package() -> None:
    with pytest.raises(ListError, match=r"^x\.csv:3: .*need the package pypinyin; install it, or write"):
        variants_of({"word": "赌博", "variants": "+pinyin"}, sounds=False)


def test_one_word_may_stand_in_several_lists(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("代開\n走私\n")
    (tmp_path / "b.csv").write_text("word,tag,direction,allow\n代开,b,output,\n代开,,,yes\n")
    paths = tuple(file.path for file in find_lists([str(tmp_path)]))
    compiled = build(Job(paths, 1000, single_characters=False))
    patterns = {compiled.pattern(number).word: compiled.pattern(number) for number in range(len(compiled))}
    assert [entry.id for entry in patterns["代开"].entries] == ["a.txt:1", "b.csv:2"]
    assert patterns["代开"].allows
    assert not patterns["走私"].allows
    assert patterns["代开"].entries[0].word == "代開"
    assert [compiled.row(row).entry.id for row in compiled.rows_of("代开")] == ["a.txt:1", "b.csv:2", "b.csv:3"]
    assert list(compiled.rows_of("代")) == []


def test_variants_lead_to_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("word,variants\n套现,套線|tx\n")
    compiled = build(Job((str(tmp_path / "a.csv"),), 3, single_characters=False))
    assert [compiled.pattern(number).word for number in range(len(compiled))] == ["tx", "套现", "套线"]
    assert {compiled.pattern(number).entries[0].id for number in range(3)} == {"a.csv:2"}
    assert {compiled.pattern(number).entries[0].word for number in range(3)} == {"套现"}
