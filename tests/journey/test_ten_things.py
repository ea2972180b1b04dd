"""A person sends ten kinds of things in a row to each door, through the chat page, as `make run` plays it.

The settings are those that ship for `make run`, on other ports; every program is real. Each
answer has to say something of what was sent, or be the one sentence that is meant for it.
"""

import asyncio
import json
import struct
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from program.settings import load
from server.settings import TextSettings
from simulator.app import Simulator
from simulator.chats import Bubble
from simulator.settings import Settings
from tests.journey.stack import ROOT, Program, free_ports
from tests.server.media.files import word
from weconverse import Content, ConversationClient, Part
from weconverse.v1.conversation_pb2 import Media

SAYS = TextSettings()
# WeCom asks for a growing answer once a second, which is not the subject here.
QUICK = '[listen]\naddress = "127.0.0.1:0"\n[rules]\nstream_poll_interval_seconds = 0.1\n'
LOCAL = ROOT / "deploy" / "local"
PERSON, CUSTOMER = "zhangwei", "wmSimulatorCustomer01"
FILM = b"\x00\x00\x00\x18ftypisom" + bytes(64)
CARD = {
    "card_type": "button_interaction",
    "main_title": {"title": "采购审批"},
    "button_list": [{"text": "同意", "key": "好的，通过这张采购单"}],
}


def picture() -> bytes:
    """A small PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\x00" + b"\x20\x60\xc0" * 32 for _ in range(32)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Step(NamedTuple):
    """One thing that a person does on the page, and what the answer has to have in it."""

    what: str
    path: str
    body: Mapping[str, Any]
    answer: str
    files: Sequence[tuple[str, str, bytes]] = ()


def write(text: str, answer: str, what: str = "text") -> Step:
    return Step(what, "write", {"text": text}, answer)


def sends(what: str, answer: str, *files: tuple[str, str, bytes], text: str = "") -> Step:
    return Step(what, "files", {"text": text}, answer, files)


def says(kind: str, answer: str, **fields: str) -> Step:
    return Step(kind, "say", {"kind": kind, "fields": fields}, answer)


PICTURE = ("image", "风景.png", picture())
CONTRACT = ("file", "采购合同.docx", word("甲方：某公司", "三十天内付款"))
TABLE = ("file", "预算.csv", "部门,预算\n研发部,120\n".encode())

TYPED = write("年假有几天？", "满 10 年")
SEEN = sends("picture", "1 张图片（PNG", PICTURE)
READ = sends("document", "三十天内付款", CONTRACT)
COUNTED = sends("table", "研发部", TABLE)
FILMED = sends("film", SAYS.media_unreadable, ("video", "演示.mp4", FILM))
SPOKEN = says("voice", "VPN", text="帮我看看 VPN 怎么连")
PLACED = says("location", "腾讯大厦", name="腾讯大厦", address="深圳市", latitude="22.54", longitude="113.93")
LINKED = says("link", "差旅办法", title="差旅办法", desc="修订版", url="https://example.com/travel")
STRANGE = says("other", SAYS.media_not_supported, title="小程序")
MIXED = sends("mixed", "1 张图片（PNG", PICTURE, text="这张图和报销有关吗？")
ENTERED = Step("enter", "enter", {}, SAYS.greeting)
QUOTED = Step("quote", "write", {"text": "这一条请再说一遍", "quote": "answer"}, "年假")
FORGOT = write("重新开始", SAYS.reset_done, "command")
TOUCHED = Step("card", "touch", {"key": "好的，通过这张采购单"}, "通过这张采购单")

SCANNED = Step(
    "scan", "menu", {"app": 1000002, "entry": "ASSET", "result": {"ScanCodeInfo.ScanResult": "PC-42"}}, "PC-42"
)

DOORS: Mapping[str, Sequence[Step]] = {
    "app": [
        ENTERED, TYPED, QUOTED, SEEN, READ, SPOKEN, FILMED, PLACED, LINKED, STRANGE, TOUCHED,
        Step("menu", "menu", {"app": 1000002, "entry": "请假"}, "年假"),
        SCANNED,
    ],
    "bot:aibSimulatorBot0001": [ENTERED, TYPED, QUOTED, SEEN, READ, COUNTED, SPOKEN, FILMED, MIXED, STRANGE, TOUCHED],
    "bot:aibSimulatorBot0002": [ENTERED, TYPED, QUOTED, SEEN, READ, COUNTED, SPOKEN, FILMED, MIXED, STRANGE, FORGOT],
    "group": [
        write("@小助手 年假有几天？", "满 10 年"),
        QUOTED,
        Step("quoted picture", "write", {"text": "这是什么？", "quote": "picture"}, "1 张图片（PNG"),
        MIXED,
        sends("pictures", "2 张图片（PNG", PICTURE, PICTURE),
        READ,
        COUNTED,
        write("@小助手", "@小助手", "mention alone"),
        write("@小助手 看看 https://example.com/news", "https://example.com/news", "address"),
        write("@小助手 👍", "👍", "emoji"),
        write("@小助手 重新开始", SAYS.reset_done, "command"),
    ],
    "kf": [
        ENTERED, TYPED, SEEN, READ, COUNTED,
        says("voice", SAYS.voice_not_heard),
        FILMED, PLACED, LINKED, STRANGE,
        write("转人工", SAYS.handed_over, "a person"),
    ],
}  # fmt: skip


class Door:
    """A person, or a customer, at one chat of the page."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession, chat: str, grpc: int) -> None:
        self.chat = simulator.corp.chat_key(chat)
        self.person = CUSTOMER if chat == "kf" else PERSON
        self._simulator = simulator
        self._http = http
        self._grpc = grpc

    async def go(self, steps: Sequence[Step]) -> None:
        """Does all of it, each thing after the answer to the one before."""
        for step in steps:
            body = dict(step.body)
            if step.path == "touch":
                body["number"] = await self._card()
            if "quote" in body:
                body["quote"] = await self._to_quote(str(body["quote"]))
            before = len(self._replies())
            await self._post(step, body)
            answer = await self._answer(step, before)
            assert step.answer in answer, f"{self.chat} {step.what}: {answer}"

    async def _post(self, step: Step, body: Mapping[str, Any]) -> None:
        # A menu is touched at an application, not in a chat.
        who = {"person": self.person} if step.path == "menu" else {"person": self.person, "chat": self.chat}
        url = f"{self._simulator.page_url}api/{step.path}"
        if step.files:
            form = aiohttp.FormData(quote_fields=False)
            for name, value in {**who, **body}.items():
                form.add_field(name, value)
            for kind, name, data in step.files:
                form.add_field(kind, data, filename=name, content_type="application/octet-stream")
            sent = self._http.post(url, data=form)
        else:
            sent = self._http.post(url, json={**who, **body})
        async with sent as response:
            assert response.status == 200, f"{self.chat} {step.what}: {await response.text()}"

    def _replies(self) -> list[Bubble]:
        return self._simulator.replies(self.person, self.chat)

    async def _answer(self, step: Step, before: int) -> str:
        def ended() -> list[Bubble]:
            new = self._replies()[before:]
            return new if new and all(bubble.finished for bubble in new) else []

        try:
            return "\n".join(bubble.text for bubble in await self._simulator.wait_for(ended, 15))
        except TimeoutError:
            raise AssertionError(f"{self.chat} {step.what}: no answer") from None

    async def _card(self) -> int:
        """A program sends a card; the number of its bubble."""
        account, before = ("assistant" if self.chat.startswith("app") else "helper"), len(self._replies())
        card = json.dumps(CARD | {"task_id": f"purchase-{account}"}).encode()
        part = Part(media=Media(mime_type="application/vnd.wecom.template-card+json", inline_data=card))
        async with ConversationClient(f"127.0.0.1:{self._grpc}") as client:
            await client.push(
                f"channels/wecom/accounts/{account}", Content(parts=[part]), recipient=f"user:{self.person}"
            )
        shown = await self._simulator.wait_for(lambda: self._replies()[before:], 15)
        return shown[-1].number

    async def _to_quote(self, which: str) -> int:
        """The number of the last answer; or of a picture that somebody sends without calling the bot."""
        if which == "answer":
            return self._replies()[-1].number
        content = self._simulator.media.content(self._simulator.media.put("image", *PICTURE[1:], checked=False))
        bubble = self._simulator.chats.post(
            chat=self.chat, person="", speaker="lina", text="[图片]", look="media",
            now=self._simulator.corp.now, content=content,
        )  # fmt: skip
        return bubble.number


@asynccontextmanager
async def local_stack(folder: Path) -> AsyncIterator[tuple[Simulator, int]]:
    """The programs of `make run` with the settings that ship, elsewhere; gives the port of the service too."""
    grpc, callbacks = free_ports(2)
    simulated = (
        (LOCAL / "simulator.toml").read_text(encoding="utf-8").replace("127.0.0.1:8080", f"127.0.0.1:{callbacks}")
    )
    (folder / "simulator.toml").write_text(f"{QUICK}{simulated}", encoding="utf-8")
    served = (LOCAL / "server.toml").read_text(encoding="utf-8").replace("var/weconverse.db", f"{folder}/turns.db")
    served += (
        f'\n[grpc]\naddress = "127.0.0.1:{grpc}"\n[operations]\naddress = ""\n[models.default]\nprotocol = "scripted"\n'
        'pictures = "inline"\ntokens_per_second = 5000\nlimits = { requests_per_minute = 0 }\n'
        "[assistants.default]\nmerge_seconds = 0\n"
    )
    (folder / "server.toml").write_text(served, encoding="utf-8")
    settings = load(Settings, folder / "simulator.toml", {}, "WECONVERSE_SIMULATOR")
    async with Simulator(settings) as simulator:
        adapter = (LOCAL / "adapter.toml").read_text(encoding="utf-8")
        adapter = adapter.replace("http://127.0.0.1:8070", simulator.rest_base)
        adapter = adapter.replace("ws://127.0.0.1:8070/openws", simulator.socket_base)
        where = f'[server]\ntarget = "127.0.0.1:{grpc}"\n[listen]\naddress = "127.0.0.1:{callbacks}"\n'
        (folder / "adapter.toml").write_text(f'{where}[operations]\naddress = ""\n{adapter}', encoding="utf-8")
        programs = [Program(name, folder / f"{name}.toml") for name in ("server", "adapter")]
        async with asyncio.TaskGroup() as tasks:
            for program in programs:
                tasks.create_task(program.keep_running())
            try:
                await simulator.wait_for(simulator.connected, 30)
                yield simulator, grpc
            finally:
                for program in reversed(programs):
                    await program.stop()


async def test_ten_kinds_of_things_at_each_door_are_answered(tmp_path: Path) -> None:
    assert all(len({step.what for step in steps}) >= 10 for steps in DOORS.values())
    async with local_stack(tmp_path) as (simulator, grpc), aiohttp.ClientSession() as http:
        async with asyncio.TaskGroup() as people:
            for chat, steps in DOORS.items():
                people.create_task(Door(simulator, http, chat, grpc).go(steps))
        # The customer who asked for a person waits for one, and gets an answer from nobody else.
        desk = "wkSimulatorDesk0001"
        await simulator.wait_for(lambda: simulator.kf.session(desk, CUSTOMER).state == 2, 10)
        said = len(simulator.replies(CUSTOMER, "kf"))
        for act, more in (("take", {}), ("write", {"text": "您好，我来处理"}), ("end", {})):
            served = {"servicer": "wangfang", "act": act, "customer": CUSTOMER, "chat": "kf", **more}
            async with http.post(f"{simulator.page_url}api/serve", json=served) as response:
                assert response.status == 200, await response.text()
        assert len(simulator.replies(CUSTOMER, "kf")) == said
        # A reply of a bot can be rated, and the rating withdrawn.
        bot = simulator.settings.bots[0].id
        rated = next(one for one in simulator.replies(PERSON, f"bot:{bot}") if one.feedback_id)
        for kind in (1, 3):
            rating = {"person": PERSON, "chat": f"bot:{bot}", "number": rated.number, "kind": kind}
            async with http.post(f"{simulator.page_url}api/rate", json=rating) as response:
                assert response.status == 200, await response.text()
