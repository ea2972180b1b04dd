"""What is remembered has an end, however long the simulator lives."""

from hypothesis import given
from hypothesis import strategies as st

from simulator.chats import Chats, cut, folded, has_visible
from simulator.rules import Rules
from simulator.settings import BoundSettings
from simulator.windows import Remembered, Window, Windows

SMALL = BoundSettings(bubbles=10, journal=100, messages=100, backlog=20)


async def test_a_long_life(simulator, api, subscribed):
    rules = Rules(conversation_per_minute=1000, member_per_minute=1000)
    async with simulator(rules, bounds=SMALL) as sim:
        bot = await subscribed(sim)
        token = (await api(sim).token())["access_token"]
        for number in range(150):
            await sim.write_to_bot("lina", str(number))
            frame = await bot.receive()
            await bot.stream(frame["headers"]["req_id"], f"s{number}", "好", True)
            body = {"touser": "lina", "msgtype": "text", "agentid": 1000002, "text": {"content": str(number)}}
            await api(sim).post("message/send", body | {"enable_duplicate_check": 1}, token)
        assert len(sim.bubbles("lina", "bot")) == 10
        assert len(sim.journal.entries()) == 100
        state = sim.socket.bots[sim.settings.bots[0].id]
        assert len(state._pushes) == len(state._streams) == 100
        assert not state._unreplied
        assert not state._running
        assert len(sim._sending._sent) == len(sim._sending._seen) == 100
        assert sim.counters["written"] == 150, "counters do not forget"


async def test_messages_that_nobody_takes(simulator):
    async with simulator(bounds=SMALL) as sim:
        for number in range(50):
            await sim.write_to_bot("lina", str(number))
        assert len(sim.socket.bots[sim.settings.bots[0].id].unreplied()) == 20


@given(st.text(), st.integers(1, 40))
def test_cut_never_halves_a_character_and_counts_what_is_lost(text, limit):
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return
    kept, lost = cut(text, limit)
    assert text.startswith(kept)
    assert len(kept.encode()) <= limit
    assert lost == size - len(kept.encode())
    assert (lost == 0) == (size <= limit)
    assert lost == 0 or limit - len(kept.encode()) < 4


@given(st.text(alphabet="a<think>/ \n"))
def test_folding_never_shows_a_thought(content):
    text, thoughts = folded(content)
    assert len(text) + len(thoughts) <= len(content)
    if "<think>" not in content:
        assert (text, thoughts) == (content, "")


def test_visible():
    assert has_visible("。")
    assert has_visible("🙂")
    assert not has_visible("\u200b \ufe0f")


@given(st.lists(st.floats(0, 100), max_size=80))
def test_a_window_holds_its_limits(steps):
    window, now, admitted = Window(5, 20), 0.0, []
    for step in steps:
        now += step
        if window.admit(now):
            admitted.append(now)
        assert sum(1 for time in admitted if time > now - 60) <= 5
        assert sum(1 for time in admitted if time > now - 3600) <= 20


def test_windows_and_tables_forget_the_oldest():
    windows = Windows[int](1, 1, 2)
    assert all(windows.admit(key, 0) for key in (1, 2, 3))
    assert windows.admit(1, 0), "the first was forgotten"
    assert not windows.admit(3, 0)
    table = Remembered[str, int](2)
    for number, key in enumerate("abc"):
        table.put(key, number, until=10)
    assert [table.get(key, 5) for key in "abc"] == [None, 1, 2]
    assert table.get("b", 10) is None
    assert len(table) == 1


def test_conversations_of_people_are_apart_and_groups_are_shared():
    heard = []
    chats = Chats(5, heard.append)
    for person in ("a", "b"):
        chats.post(chat="bot:x", person=person, speaker=person, text=person, now=1)
        chats.post(chat="group:g", person=person, speaker=person, text=person, now=1)
    assert [bubble.text for bubble in chats.bubbles("a", "bot:x")] == ["a"]
    assert [bubble.text for bubble in chats.bubbles("a", "group:g")] == ["a", "b"]
    assert [bubble.number for bubble in heard] == [1, 2, 3, 4]
    assert chats.bubbles("a", "app:1") == []
