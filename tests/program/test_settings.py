import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, field

from program.secret import Secret
from program.settings import SettingsError, describe, load, printable


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(description="Its name.", min_length=1)]
    key: Secret = field(default_factory=lambda: Secret(""))
    weight: Annotated[float, Meta(description="Its share.", ge=0, le=1)] = 0.5


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(description="How many.", ge=1)] = 10
    mode: Annotated[Literal["fast", "safe"], Meta(description="How.")] = "safe"
    title: Annotated[str, Meta(description="What it is called.")] = ""
    words: Annotated[tuple[str, ...], Meta(description="Words.")] = ("一", "二")
    extra: dict[str, object] = field(default_factory=dict)
    wanted: bool = False
    share: Annotated[Entry | None, Meta(description="Whose.")] = None
    chance: Annotated[Annotated[float, Meta(ge=0, le=1)] | None, Meta(description="Chance.")] = None


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    section: Section = Section()
    entries: Annotated[tuple[Entry, ...], Meta(max_length=2)] = ()
    by_name: dict[str, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.section.limit == 13:
            raise ValueError("section.limit of 13 does not go with this test")


def from_text(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Sample:
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    return load(Sample, file, environ or {}, "SAMPLE")


def refused(tmp_path: Path, text: str = "", environ: dict[str, str] | None = None) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        from_text(tmp_path, text, environ)
    return caught.value


def test_defaults_need_no_file() -> None:
    assert load(Sample, None, {}, "SAMPLE") == Sample()


def test_a_file_is_read_into_structs(tmp_path: Path) -> None:
    sample = from_text(
        tmp_path,
        'section = {limit = 3, mode = "fast", words = ["甲"], extra = {a = {b = 1}}}\n'
        '[[entries]]\nname = "x"\nweight = 1\n[by_name."重要"]\nname = "y"\n',
    )
    assert sample.section == Section(limit=3, mode="fast", words=("甲",), extra={"a": {"b": 1}})
    assert sample.entries == (Entry(name="x", weight=1.0),)
    assert sample.by_name["重要"].name == "y"


def test_a_table_that_may_be_left_out_is_read_like_any_other(tmp_path: Path) -> None:
    assert from_text(tmp_path, "[section.share]\nname = 'x'\n").section.share == Entry(name="x")
    environ = {"SAMPLE__SECTION__SHARE__NAME": "12"}
    assert from_text(tmp_path, "", environ).section.share == Entry(name="12")
    assert refused(tmp_path, "[section.share]\nname = 'x'\nweigth = 1\n").field == "section.share.weigth"
    assert refused(tmp_path, "[section]\nshare = 3\n").field == "section.share"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = {
        "SAMPLE__SECTION__LIMIT": "7",
        "SAMPLE__SECTION__WANTED": "true",
        "SAMPLE__SECTION__TITLE": "123",
        "SAMPLE__SECTION__WORDS": '["a", "b"]',
        "SAMPLE__BY_NAME__FIRST_ONE__WEIGHT": "0.25",
        "SAMPLE__ENTRIES": '[{name = "listed"}]',
        "SAMPLETON__SECTION__LIMIT": "99",
        "OTHER__SECTION__LIMIT": "99",
    }
    sample = from_text(tmp_path, '[section]\nlimit = 3\n[by_name.first-one]\nname = "kept"\n', environ)
    assert sample.section.limit == 7
    assert sample.section.wanted is True
    assert sample.section.title == "123"  # a string is wanted, so nothing is guessed
    assert sample.section.words == ("a", "b")
    assert sample.by_name["first-one"] == Entry(name="kept", weight=0.25)
    assert sample.entries[0].name == "listed"


def test_a_value_that_is_no_toml_is_taken_as_text() -> None:
    sample = load(Sample, None, {"SAMPLE__SECTION__EXTRA__PATH": "/a b"}, "SAMPLE")
    assert sample.section.extra == {"path": "/a b"}


@pytest.mark.parametrize(
    ("text", "environ", "field_path", "words"),
    [
        ("[section]\nlimt = 1", {}, "section.limt", "did you mean `limit`?"),
        ("zzz = 1", {}, "zzz", "known here: by_name, entries, section"),
        ("[section]\nlimit = 0", {}, "section.limit", "must be a whole number >= 1, and is 0"),
        ("[section]\nlimit = true", {}, "section.limit", "must be a whole number, not true or false"),
        ('[section]\nlimit = "many"', {}, "section.limit", "must be a whole number, not a string"),
        ('[section]\nmode = "fat"', {}, "section.mode", "must be one of fast, safe, not 'fat'; did you mean fast?"),
        ("section = 3", {}, "section", "must be a table, not a number"),
        ("[[entries]]\nweight = 1", {}, "entries[0].name", "is required"),
        ("entries = 4", {}, "entries", "must be a list of tables"),
        ("by_name = 4", {}, "by_name", "must be a table"),
        ("[by_name.a]\nname = 'x'\nweight = 2", {}, "by_name.a.weight", "must be a number <= 1.0, and is 2"),
        ("[by_name.a]\nname = 'x'\nweight = nan", {}, "by_name.a.weight", "finite"),
        ("[by_name.a]\nname = 'x'\nkey = 4", {}, "by_name.a.key", "env:NAME, file:PATH"),
        ("[by_name.a]\nname = 'x'\nkey = 'env:GONE'", {}, "by_name.a.key", "GONE, which is not set"),
        ("[by_name.a]\nname = 'x'\nkey = 'file:/none'", {}, "by_name.a.key", "/none, which cannot be read"),
        ("[section]\nlimit = 13", {}, "settings", "does not go with this test"),
        ("", {"SAMPLE__SECTION__LIMIT": "x"}, "section.limit", "must be a whole number"),
        ("", {"SAMPLE__SECTION": "x"}, "section", "must be a table"),
        ("", {"SAMPLE____LIMIT": "x"}, "SAMPLE____LIMIT", "empty part"),
        ("", {"SAMPLE__SECTION__LIMIT__X": "1"}, "section.limit", "must be a whole number"),
        ("[section]\nlimit = 1", {"SAMPLE__SECTION__LIMIT__X": "1"}, "SAMPLE__SECTION__LIMIT__X", "set `limit` itself"),
        ("entries = [{name='a'},{name='b'},{name='c'}]", {}, "entries", "at most 2 entries, and has 3"),
        ("not toml", {}, "", "is not valid TOML"),
    ],
)
def test_every_mistake_names_field_rule_and_remedy(
    tmp_path: Path, text: str, environ: dict[str, str], field_path: str, words: str
) -> None:
    error = refused(tmp_path, text, environ)
    assert field_path in error.field
    assert words in error.rule
    assert str(error) == f"{error.field}: {error.rule}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml: cannot be read"):
        load(Sample, tmp_path / "gone.toml", {}, "SAMPLE")


def test_secrets_come_from_the_environment_a_file_or_the_text(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n", encoding="utf-8")
    text = (
        f'[by_name.a]\nname = "a"\nkey = "env:KEY"\n[by_name.b]\nname = "b"\nkey = "file:{tmp_path / "key"}"\n'
        '[by_name.c]\nname = "c"\nkey = "literal:with:colons"\n'
    )
    keys = {name: entry.key.reveal() for name, entry in from_text(tmp_path, text, {"KEY": "from-env"}).by_name.items()}
    assert keys == {"a": "from-env", "b": "from-file", "c": "literal:with:colons"}


def test_what_is_printed_hides_secrets_and_is_toml(tmp_path: Path) -> None:
    text = (
        '[by_name.a]\nname = "a"\nkey = "env:KEY"\n[by_name."b c"]\nname = "引号\\"\\n"\nkey = "literal"\n'
        '[section]\nextra = {deep = {"a b" = [1, 2.5, false]}}\n[[entries]]\nname = "e"\nkey = "literal"\n'
    )
    printed = printable(from_text(tmp_path, text, {"KEY": "hidden-value"}))
    assert "hidden-value" not in printed
    assert "literal" not in printed
    table = tomllib.loads(printed)
    assert table["by_name"]["a"]["key"] == "env:KEY"
    assert table["by_name"]["b c"] == {"name": '引号"\n', "key": "********", "weight": 0.5}
    assert table["section"]["extra"] == {"deep": {"a b": [1, 2.5, False]}}
    assert table["entries"][0]["key"] == "********"
    assert "chance" not in table["section"], "TOML has no word for what is unset"


@given(
    st.builds(
        Sample,
        section=st.builds(
            Section,
            limit=st.integers(14, 2**53),
            mode=st.sampled_from(["fast", "safe"]),
            title=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f")),
            words=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]))).map(tuple),
            chance=st.none() | st.floats(0, 1),
        ),
        by_name=st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
            st.builds(Entry, name=st.just("n"), weight=st.floats(0, 1)),
            max_size=3,
        ),
    )
)
def test_printed_settings_can_be_read_back(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> None:
    file = tmp_path_factory.mktemp("printed") / "settings.toml"
    file.write_bytes(printable(sample).encode())
    assert load(Sample, file, {}, "SAMPLE") == sample


def test_every_setting_is_described() -> None:
    rows = {row.path: row for row in describe(Sample)}
    assert rows["section.limit"] == ("section.limit", "integer", "10", "≥ 1", "How many.")
    assert rows["section.mode"].type == "`fast` | `safe`"
    assert rows["section.words"] == ("section.words", "list of string", '["一", "二"]', "", "Words.")
    assert rows["entries[].name"] == ("entries[].name", "string", "", "at least 1 long", "Its name.")
    assert rows["by_name.*.key"].type == "secret"
    assert rows["by_name.*.weight"].constraints == "≥ 0, ≤ 1"
    assert rows["section.share"] == ("section.share", "table", "unset", "", "Whose.")
    assert rows["section.share.weight"].constraints == "≥ 0, ≤ 1"
    assert rows["section.chance"] == ("section.chance", "number ≥ 0, ≤ 1", "unset", "", "Chance.")
