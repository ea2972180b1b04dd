"""What WeCom shows: sizes in bytes, good places to cut, nothing lost, something to see."""

import re
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapter.text.markdown import blocks, closes, opening_fence
from adapter.text.render import (
    APP_TEXT_LIMIT,
    BOT_STREAM_LIMIT,
    PLACEHOLDER,
    app_parts,
    bot_parts,
    bot_stream_content,
    clean,
    has_visible,
    plain,
    split,
)

MARKER = re.compile(r"\A\((\d+)/(\d+)\)\n")
FAMILY, FLAG, ACCENT = "👨‍👩‍👧‍👦", "🇨🇳", "e\u0301"


def unmarked(parts: list[str]) -> list[str]:
    """The parts without markers, which are checked on the way."""
    if len(parts) == 1:
        return parts
    out = []
    for number, part in enumerate(parts, start=1):
        match = MARKER.match(part)
        assert match is not None
        assert (int(match[1]), int(match[2])) == (number, len(parts))
        out.append(part[match.end() :].removeprefix("\n"))
    return out


def letters(text: str) -> str:
    return "".join(text.split())


def open_fences(text: str) -> int:
    fence = None
    for line in text.split("\n"):
        if fence is None:
            fence = opening_fence(line)
        elif closes(line, fence):
            fence = None
    return int(fence is not None)


# --- Properties --------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["你好", "世界。", "问题？", "好！", "a b", "word ", "end. ", "1. ", "，", "、", "\n", "\n\n", " ",
     "https://example.com/a?b=c ", FAMILY, FLAG, ACCENT, "👍🏽", "é", "한국어", "𠮷", "~", "- ", "> ", "（注）",
     "”", "“", "…", "\u3000"]
)  # fmt: skip
# Three tildes are a code block, whose closing fence is added: that is a property of its own, below.
PROSE = st.lists(WORDS, max_size=200).map("".join).filter(lambda text: "~~~" not in text)
LIMITS = st.integers(32, 200)


@settings(max_examples=300, deadline=None)
@given(PROSE, LIMITS, st.booleans())
def test_parts_are_small_ordered_visible_and_complete(text: str, limit: int, numbered: bool) -> None:
    parts = split(text, limit, numbered=numbered)
    assert all(len(part.encode()) <= limit for part in parts)
    assert all(has_visible(part) for part in parts)
    bare = unmarked(parts) if numbered else parts
    assert all(has_visible(part) for part in bare)
    assert letters("".join(bare)) == letters(text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400), LIMITS)
def test_any_text_at_all(text: str, limit: int) -> None:
    parts = split(text, limit)
    assert all(len(part.encode()) <= limit and has_visible(part) for part in parts)
    assert bool(parts) == has_visible(text)


CODE = st.lists(
    st.sampled_from(["x = 1", "  return y", "", "print('你好')", "```x", "# 注释 " * 5, "|a|b|", "~~~"]), max_size=25
)


@settings(max_examples=200, deadline=None)
@given(PROSE, CODE, st.sampled_from(["```", "```python", "~~~", "  ````sh"]), st.booleans(), st.integers(64, 300))
def test_fences_are_balanced_in_every_part(before: str, code: list[str], fence: str, closed: bool, limit: int) -> None:
    ticks = opening_fence(fence)
    assert ticks is not None
    code = [line for line in code if not closes(line, ticks)]
    text = "\n".join([before, fence, *code, *([ticks] if closed else []), "" if closed else "rest"])
    parts = unmarked(split(text, limit))
    assert all(open_fences(part) == 0 for part in parts)
    # Nothing lost: without fence lines, what was there is there, once and in order.
    marks = {fence.strip(), ticks.strip()}
    kept = ["".join(letters(line) for line in part.split("\n") if line.strip() not in marks) for part in parts]
    original = "".join(letters(line) for line in text.split("\n") if line.strip() not in marks)
    assert "".join(kept) == original


ROWS = st.lists(
    st.lists(st.sampled_from(["甲", "b c", "100", "", "长" * 8]), min_size=2, max_size=2), min_size=1, max_size=40
)


@settings(max_examples=150, deadline=None)
@given(PROSE, ROWS, st.integers(100, 300))
def test_every_piece_of_a_table_has_its_header(before: str, rows: list[list[str]], limit: int) -> None:
    head, line = "| 项 | 值 |", "|---|---|"
    body = [f"| {a} | {b} |" for a, b in rows]
    parts = unmarked(split("\n".join([before, "", head, line, *body, "", "完"]), limit))
    seen = []
    for part in parts:
        lines = part.split("\n")
        table = [at for at, row in enumerate(lines) if row.startswith("|")]
        if table:
            assert lines[table[0] : table[0] + 2] == [head, line]
            assert table == list(range(table[0], table[0] + len(table)))
            seen += [lines[at] for at in table[2:]]
    assert seen == body


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([FAMILY, FLAG, ACCENT, "👍🏽", "❤️", "1️⃣", "字", "x"]), min_size=1, max_size=120), LIMITS)
def test_no_emoji_or_accent_falls_apart(clusters: list[str], limit: int) -> None:
    limit = max(limit, 64)
    at = 0
    for part in unmarked(split("".join(clusters), limit)):
        while part:
            assert part.startswith(clusters[at])
            part = part[len(clusters[at]) :]
            at += 1
    assert at == len(clusters)


@settings(max_examples=150, deadline=None)
@given(PROSE, CODE)
def test_blocks_joined_are_the_text(before: str, code: list[str]) -> None:
    text = "\n".join([before, *code])
    again = "".join(block.gap + block.text for block in blocks(text))
    # A fence that nobody closed is closed; but for that and the ends it is the very text.
    assert again.startswith(text.strip()) or letters(again).startswith(letters(text))


MARKDOWN = st.lists(
    st.sampled_from(
        ["**", "*", "_", "`", "``", "[", "](", ")", "http://a_b/", "<think>", "|", "\n", "\n|-|-|\n", "# ", "- ", "\\"]
    ),
    max_size=80,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(MARKDOWN | PROSE)
@example("")
@example("\u200b")
def test_every_reply_has_messages(text: str) -> None:
    for parts, limit in ((app_parts(text), 2048), (app_parts(text, markdown=True), 2048), (bot_parts(text), 20480)):
        assert parts
        assert all(len(part.encode()) <= limit and has_visible(part) for part in parts)
    shown = bot_stream_content(text)
    assert has_visible(shown)
    assert len(shown.encode()) <= BOT_STREAM_LIMIT
    assert open_fences(shown) == 0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["你好", "世界。", "word ", "3 * 4", "a_b_c", "2**3", "f(x)", "50%", "！", "\n", "#1", "C++"]),
        max_size=30,
    )
)
def test_what_is_no_markdown_stays(pieces: list[str]) -> None:
    text = "x" + "".join(pieces)
    if not re.search(r"\*.*\*|^\s*#", text.replace("2**3", "").replace("3 * 4", "")):
        assert letters(plain(text)) == letters(text)


# --- Where the cuts fall -----------------------------------------------------------------


def test_a_text_that_fits_stays_as_it_is() -> None:
    assert split("  字" * 10 + "\n", 2048) == ["  字" * 10 + "\n"]
    assert split("字" * 682 + "ab", 2048) == ["字" * 682 + "ab"]
    assert len(split("字" * 682 + "abc", 2048)) == 2
    assert split("", 2048) == split(" \u200b\ufe0f\n", 2048) == []


def test_paragraph_before_sentence_before_character() -> None:
    one, two = "第一段。" * 5, "第二段。" * 5
    assert split(f"{one}\n\n{two}", 100, numbered=False) == [one, two]
    assert unmarked(split(f"{one}\n\n{two}", 100)) == [one, two]
    long = "这是一句话。" * 20
    for part in split(long, 100, numbered=False):
        assert part.endswith("。")
    mixed = "He said so. It costs 3.14 units! Really? " * 5
    for part in split(mixed, 60, numbered=False):
        assert part[-1] in ".!?"
    quoted = "他说：“今天下雨。”" * 10
    for part in split(quoted, 70, numbered=False):
        assert part.endswith("。”")
    for part in split("字" * 100, 50, numbered=False)[:-1]:
        assert part == "字" * 16


def test_lists_are_cut_between_items() -> None:
    items = [f"{number}. 事项{number}，说明。还有一句" for number in range(1, 30)]
    parts = split("\n".join(items), 150, numbered=False)
    assert "\n".join(parts).split("\n") == items


def test_indentation_survives_a_cut() -> None:
    items = ["- 一级"] + ["  - 二级事项"] * 30
    assert "\n".join(split("\n".join(items), 100, numbered=False)).split("\n") == items


def test_code_is_kept_whole_or_reopened() -> None:
    code = "```python\n" + "print('x')\n" * 5 + "```"
    parts = split("说明。" * 5 + "\n\n" + code + "\n\n结束。", 100, numbered=False)
    assert code in parts[1]
    long = split("```python\n" + "print('x')\n" * 40 + "```", 120)
    assert len(long) > 3
    for part in unmarked(long):
        assert part.startswith("```python\n")
        assert part.endswith("\n```")
    assert "".join(unmarked(long)).count("print('x')") == 40


def test_ticks_in_a_line_do_not_become_a_fence_at_a_cut() -> None:
    for shift in range(40):
        text = "字" * (20 + shift) + " ```x``` " + "尾" * 30
        assert all(open_fences(part) == 0 for part in unmarked(split(text, 80)))


def test_numbers_grow_with_the_parts() -> None:
    parts = split("字" * 5000, 64)
    assert len(parts) > 100
    assert parts[0].startswith(f"(1/{len(parts)})\n")
    assert parts[-1].startswith(f"({len(parts)}/{len(parts)})\n")
    unmarked(parts)


def test_a_marker_never_turns_into_a_heading_or_a_row() -> None:
    table = "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 30
    assert all(part.split("\n")[1] == "" for part in split(table, 100))


def test_limits_without_room_are_refused() -> None:
    with pytest.raises(ValueError, match="limit: "):
        split("text", 31)


HOSTILE = {
    "one letter": "a" * 2**20,
    "one character": "字" * 2**18,
    "blanks": "a" + " " * 2**20 + "b",
    "line breaks": "a" + "\n" * 2**20 + "b",
    "zero width": "a" + "\u200b" * 2**18 + "b",
    "ticks": "`" * 2**20,
    "single ticks": "`a" * 2**18,
    "stars": "*" * 2**20,
    "open stars": "**a " * 2**17,
    "brackets": "[" * 2**20,
    "links": "[x](" * 2**17,
    "joiners": "👨\u200d" * 2**17,
    "marks": "e" + "\u0301" * 2**18,
    "flags": "🇨" * 2**17,
    "stops": "。" * 2**18,
    "items": "1. " * 2**18,
    "pipes": "|" * 2**20,
    "rows": "|a|b|\n|-|-|\n" + "|x|y|\n" * 2**15,
    "fences": "```\nx\n" * 2**15,
    "blank code": "```\n" + " " * 2**20 + "\n```",
    "blank heading": "# " + " " * 2**20 + "x",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_is_linear(name: str) -> None:
    text = HOSTILE[name]
    began = time.process_time()
    for parts, limit in ((split(text, 2048), 2048), (app_parts(text), 2048), (bot_parts(text), 20480)):
        assert all(len(part.encode()) <= limit for part in parts)
    assert len(bot_stream_content(text).encode()) <= 20480
    # Measured below 0.7 s; anything quadratic takes minutes.
    assert time.process_time() - began < 8


# --- Plain text --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("# 标题", "【标题】"),
        ("### **标题** ##", "【标题】"),
        ("#不是标题", "#不是标题"),
        ("这是**重点**内容", "这是重点内容"),
        ("*斜* 和 ***都*** 和 ~~删~~ 和 __粗__", "斜 和 都 和 删 和 粗"),
        ("2**3**4 与 snake_case_name 与 3 * 4 * 5", "2**3**4 与 snake_case_name 与 3 * 4 * 5"),
        ("用 `pip install *x*` 安装", "用 pip install *x* 安装"),
        ("**看 `x` 吧**", "看 x 吧"),
        ("[文档](https://a.b/c_d_e)", "文档 (https://a.b/c_d_e)"),
        ("[`foo`](https://a.b)", "foo (https://a.b)"),
        ("[https://a.b](https://a.b)", "https://a.b"),
        ("![图](https://a.b/c.png)", "图 (https://a.b/c.png)"),
        ("`[a](b)`", "[a](b)"),
        ("<https://a.b>", "https://a.b"),
        ("- 一\n* 二\n+ 三\n  - 四", "• 一\n• 二\n• 三\n  • 四"),
        ("- [ ] 待办\n- [x] 完成", "☐ 待办\n☑ 完成"),
        ("1. 一\n2. 二", "1. 一\n2. 二"),
        ("> 引用 **x**", "> 引用 x"),
        ("上\n\n---\n\n下", "上\n\n————————\n\n下"),
        ("一<br>二", "一\n二"),
        (r"\*不是\*", "*不是*"),
        ("```py\n**x** # y\n```", "```py\n**x** # y\n```"),
        ("| 项 | 额 |\n|---|---:|\n| 房租 | **100** |", "项：额\n房租：100"),
        (
            "| 项 | 额 | 注 |\n|---|---|---|\n| 房租 | 1 | |\n| 水\\|电 | 2 | 好 |",
            "• 项：房租；额：1\n• 项：水|电；额：2；注：好",
        ),
        ("a | b", "a | b"),
    ],
)
def test_plain(markdown: str, text: str) -> None:
    assert plain(markdown) == text


def test_application_messages() -> None:
    assert app_parts("# 标题\n\n**好**") == ["【标题】\n\n好"]
    assert app_parts("# 标题\n\n**好**", markdown=True) == ["# 标题\n\n**好**"]
    assert app_parts("| a | b |\n|---|---|\n| 1 | 2 |", markdown=True) == ["a：b\n1：2"]
    parts = app_parts("段落内容。" * 1000)
    assert all(len(part.encode()) <= APP_TEXT_LIMIT for part in parts)
    assert "".join(unmarked(parts)) == "段落内容。" * 1000
    assert len(app_parts(" \u200b ")) == 1
    assert app_parts("a\x00b\r\nc\x1bd\u202e") == ["ab\ncd"]


# --- The bubble --------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["<think>", "</think>", "<THINK>", "< think >", "</ think", "<think\n>", "<thinking>"])
def test_a_quoted_tag_cannot_fold_the_answer(tag: str) -> None:
    for shown in (bot_stream_content(f"用 `{tag}` 标记"), bot_parts(f"用 `{tag}` 标记")[0]):
        assert not re.search(r"<\s*/?\s*think", shown, re.IGNORECASE)
        assert shown.replace("\u200b", "") == f"用 `{tag}` 标记"


def test_the_first_frame_has_something_to_see() -> None:
    for nothing in ("", " ", "\n", "\u200b", "\ufe0f", "\x00"):
        assert bot_stream_content(nothing) == PLACEHOLDER
    assert has_visible(PLACEHOLDER)


def test_open_code_is_closed_for_display() -> None:
    assert bot_stream_content("看：\n```py\nx = 1") == "看：\n```py\nx = 1\n```"
    assert bot_stream_content("看：\n```py\nx = 1\n") == "看：\n```py\nx = 1\n```"
    assert bot_stream_content("看：\n```py\nx\n```\n完") == "看：\n```py\nx\n```\n完"


def test_every_growing_frame_fits_and_the_rest_follows() -> None:
    text = "".join(f"第{number}段，内容内容内容。\n\n" for number in range(1500)) + "```py\n" + "x = 1\n" * 3000
    for length in [*range(0, 24000, 997), len(text)]:
        shown = bot_stream_content(text[:length])
        assert 0 < len(shown.encode()) <= BOT_STREAM_LIMIT
        assert open_fences(shown) == 0
    assert "随后发送" in bot_stream_content(text)
    parts = bot_parts(text)
    assert len(parts) > 2
    assert all(len(part.encode()) <= BOT_STREAM_LIMIT for part in parts)
    assert "".join(unmarked(parts)).count("内容内容内容") == 1500
    assert "".join(unmarked(parts)).count("x = 1") == 3000


def test_a_bubble_that_just_fits_has_no_note() -> None:
    text = "字" * 6826 + "ab"
    assert len(text.encode()) == BOT_STREAM_LIMIT
    assert bot_stream_content(text) == text
    assert bot_parts(text) == [text]
    assert bot_stream_content(text + "c").endswith("随后发送）")
    # Closing the fence must not push the frame over the limit either.
    assert len(bot_stream_content("```\n" + "x" * (BOT_STREAM_LIMIT - 5)).encode()) <= BOT_STREAM_LIMIT


# --- Characters --------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a", "字", "。", "👍", "\u200b字", "é", "—", "\ufffd", "🇨🇳", "١"])
def test_visible(text: str) -> None:
    assert has_visible(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "\u3000", "\t\n", "\u200b", "\u200d", "\ufeff", "\ufe0f", "\u00ad", "\u2060", "\u3164", "\u2800", "\x07",
     "\u0301", "\U000e0041", "\u00a0", "\u034f", "\u115f", "\ue000", "\uffff"],
)  # fmt: skip
def test_invisible(text: str) -> None:
    assert not has_visible(text)


@given(st.text(st.characters(exclude_categories=())))
def test_clean_texts_travel(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert not any(unicodedata.category(character) == "Cc" and character not in "\n\t" for character in cleaned)
    assert clean(cleaned) == cleaned
