"""Items of customer service from foreign bytes, and the file of cursors."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.kf.cursors import Cursors
from adapter.kf.translate import from_kf_item
from adapter.kf.wire import CUSTOMER, hint_of, read_item
from adapter.translate import Incoming, Silence, read_address
from adapter.wire import AppMessage

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=12,
)
KINDS = ("text", "image", "file", "location", "link", "msgmenu", "merged_msg", "channels", "event", "note", "else")
FIELDS = ("content", "menu_id", "media_id", "title", "list", "item", "name", "latitude", "event_type")


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), JSON), st.dictionaries(st.text(), JSON), JSON)
def test_no_item_is_too_strange(kind: str, body: object, more: dict[str, object], value: object) -> None:
    raw = {
        **more,
        "msgid": "m",
        "external_userid": "wm",
        "send_time": value,
        "origin": CUSTOMER,
        "msgtype": kind,
        kind: body,
    }
    raw = msgspec.json.decode(msgspec.json.encode(raw))
    meaning = from_kf_item("desk", read_item(raw, "wk"))
    assert isinstance(meaning, Incoming | Silence)
    if isinstance(meaning, Incoming):
        assert len(meaning.content.parts) >= 1
        assert read_address(meaning.address).open_kfid == "wk"
    assert read_item({kind: value}, "wk").open_kfid


def test_items_say_where_they_belong() -> None:
    event = {"msgtype": "event", "event": {"event_type": "enter_session", "open_kfid": "wk1", "external_userid": "wm1"}}
    item = read_item(event, "wk")
    assert (item.open_kfid, item.external_userid, item.kind, item.is_event) == ("wk1", "wm1", "enter_session", True)
    plain = read_item({"msgtype": "text", "text": {"content": "x"}, "external_userid": "wm2"}, "wk")
    assert (plain.open_kfid, plain.external_userid, plain.kind) == ("wk", "wm2", "text")


@pytest.mark.parametrize(
    ("event", "fields", "found"),
    [
        ("kf_msg_or_event", {"Token": " t ", "OpenKfId": "wk"}, ("wk", "t")),
        ("kf_msg_or_event", {"Token": "t"}, None),
        ("kf_account_auth_change", {"AuthAddOpenKfId": "wk", "OpenKfId": "wk"}, None),
    ],
)
def test_hints(event: str, fields: dict[str, str], found: tuple[str, str] | None) -> None:
    assert hint_of(AppMessage(msg_type="event", event=event, fields=fields)) == found


async def test_cursors_outlive_the_program(tmp_path: Path) -> None:
    path = tmp_path / "cursors.json"
    first = Cursors(str(path))
    await first.load()
    assert first.get("wk1") == ""
    await asyncio.gather(*(first.put(f"wk{number}", f"c{number}") for number in range(20)))
    second = Cursors(str(path))
    await second.load()
    assert [second.get(f"wk{number}") for number in range(20)] == [f"c{number}" for number in range(20)]
    assert [file.name for file in tmp_path.iterdir()] == ["cursors.json"]


@pytest.mark.parametrize("content", [b"", b"not JSON", b'{"cursors": 3}', b"\xff", b'{"cursors": {"wk": "\xff"}}'])
async def test_a_file_that_cannot_be_read_counts_as_lost(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cursors.json"
    path.write_bytes(content)
    cursors = Cursors(str(path))
    await cursors.load()
    assert cursors.get("wk") == ""
    await cursors.put("wk", "c")
    again = Cursors(str(path))
    await again.load()
    assert again.get("wk") == "c"


async def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    cursors = Cursors(str(tmp_path / "missing" / "cursors.json"))
    await cursors.load()
    await cursors.put("wk", "c")
    assert cursors.get("wk") == "c"
