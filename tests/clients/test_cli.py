"""The command line as a person uses it: in a process of its own, on a pipe and on a terminal."""

import asyncio
import io
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from os import terminal_size
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weconverse import ConversationClient, ConverseRequest, FailedPrecondition, RateLimited, TextReplacement, Turn
from weconverse._terminal import ASSISTANT, Screen, printable, rows
from weconverse.cli import describe, readable
from weconverse.testing import FakeService

FAILOVER = TextReplacement(text="", cause=TextReplacement.FAILOVER)
CLIENTS = Path(__file__).parents[2] / "clients"


def environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_START") if name in os.environ}
    path = os.pathsep.join(filter(None, (str(CLIENTS), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "PYTHONUTF8": "1", "TERM": "xterm", "PYTHONFAULTHANDLER": "1"}


async def run(*arguments: str, stdin: bytes = b"", **more: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "weconverse", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment(), **more},
    )
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Terminal:
    """A program on a terminal, and somebody who reads and types."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.process = process
        self.shown = ""
        self._master = master
        self._read_up_to = 0
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    @classmethod
    async def start(cls, *arguments: str, **more: str) -> "Terminal":
        master, slave = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "weconverse", *arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment(), **more},
        )
        os.close(slave)
        return cls(process, master)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except OSError:  # How Linux says that the other side is closed.
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self.shown += data.decode(errors="replace")
        self._news.set()

    async def expect(self, text: str) -> None:
        """Waits until the text appears behind what was expected before."""
        async with asyncio.timeout(10):
            while (found := self.shown.find(text, self._read_up_to)) < 0:
                self._news.clear()
                await self._news.wait()
        self._read_up_to = found + len(text)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def ended(self) -> int:
        try:
            async with asyncio.timeout(10):
                return await self.process.wait()
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)


# --- ask ------------------------------------------------------------------------------


async def test_ask_prints_the_reply() -> None:
    async with FakeService({"你好": "你好!\n有什么事?"}) as fake:
        assert await run("ask", "你好", "--target", fake.target) == (0, "你好!\n有什么事?\n", "")
        request = fake.requests("Converse", ConverseRequest)[0]
        assert (request.channel, request.assistant) == ("cli", "")
        assert request.conversation.startswith("conversations/cli.")


async def test_ask_reads_standard_input_and_the_environment() -> None:
    async with FakeService(token="geheim") as fake:
        code, out, _ = await run(
            *("ask", "-", "--conversation", "mine", "--assistant", "sales"),
            stdin="两行\n问题\n".encode() + b"\xff",
            WECONVERSE_TARGET=fake.target,
            WECONVERSE_TOKEN="geheim",
        )
        assert (code, out) == (0, "你说:两行\n问题\n\ufffd\n")
        request = fake.requests("Converse", ConverseRequest)[0]
        assert (request.conversation, request.assistant) == ("conversations/mine", "assistants/sales")


async def test_ask_says_in_one_line_what_went_wrong(unused_tcp_port: int) -> None:
    async with FakeService() as fake:
        fake.fail_next(RateLimited("too\nmany", retry_after=90))
        code, out, err = await run("ask", "x", "--target", fake.target)
    assert (code, out, err) == (1, "", "weconverse: RATE_LIMITED: too many (try again in 90 s)\n")
    code, out, err = await run("ask", "x", "--target", f"127.0.0.1:{unused_tcp_port}")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("weconverse: UNAVAILABLE: ")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("ask",),
        ("sing",),
        ("ask", " "),
        ("ask", "-"),
        ("ask", "x", "--timeout", "0"),
        ("ask", "x", "--conversation", "a/b"),
        ("ask", "x", "--target", "example.com:1", "--token", "t"),
        ("ask", "x", "--ca", "/nowhere"),
    ],
    ids=" ".join,
)
async def test_a_command_that_cannot_be_meant(arguments: tuple[str, ...]) -> None:
    code, out, err = await run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: weconverse")
    assert "Traceback" not in err


async def test_ask_can_be_interrupted() -> None:
    async def never(request: ConverseRequest) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    async with FakeService(never) as fake:
        terminal = await Terminal.start("ask", "x", "--target", fake.target)
        await fake.until(lambda: len(fake.calls) == 1, timeout=10)
        terminal.process.send_signal(signal.SIGINT)
        assert await terminal.ended() == 130
        assert "Traceback" not in terminal.shown


# --- chat ------------------------------------------------------------------------------


async def test_chat_on_a_pipe_has_no_colour_and_no_prompt() -> None:
    async with FakeService({"一": "壹", "二": "贰"}) as fake:
        code, out, err = await run(
            *("chat", "--target", fake.target, "--conversation", "c"),
            stdin="一\n\n/reset\n二\n/history 1\n/nonsense\n/history\n/quit\n三\n".encode(),
        )
    assert (code, err) == (0, "")
    head, *rest = out.splitlines()
    assert head.startswith("conversation c · /reset")
    assert rest == [
        "assistant> 你好,有什么可以帮你?",
        "assistant> 壹",
        "(forgotten)",
        "assistant> 贰",
        "you> 二",
        "assistant> 贰",
        head.partition(" · ")[2],
        "you> 一",
        "assistant> 壹",
        "you> 二",
        "assistant> 贰",
    ]


async def test_chat_before_anything_was_said_and_after_errors() -> None:
    async with FakeService({"坏": FailedPrecondition("没有钱"), "换": ["甲", FAILOVER, "乙"]}, greeting="") as fake:
        fake.fail_next(RateLimited("slow"), method="ListTurns")
        code, out, _ = await run(
            *("chat", "--target", fake.target), stdin="/history\n/history\n/reset\n坏\n换\n".encode()
        )
    assert code == 0
    assert out.splitlines()[1:] == [
        "RATE_LIMITED: slow",
        "(nothing was said yet)",
        "(forgotten)",
        "FAILED_PRECONDITION: 没有钱",
        "assistant> 甲",
        "(the reply was replaced)",
        "assistant> 乙",
        "",
    ]


async def test_chat_says_that_a_person_has_the_conversation() -> None:
    async with FakeService() as fake:
        async with ConversationClient(fake.target) as client:
            await client.hand_off("c")
        code, out, err = await run("chat", "--target", fake.target, "--conversation", "c", stdin="在吗\n".encode())
    assert (code, err) == (0, "")
    assert out.rstrip().endswith("(a person has this conversation)")


async def test_chat_where_nobody_listens(unused_tcp_port: int) -> None:
    code, out, err = await run("chat", "--target", f"127.0.0.1:{unused_tcp_port}", stdin=b"x\n")
    assert (code, out, err.count("\n")) == (1, "", 1)


async def test_chat_on_a_terminal() -> None:
    halted = asyncio.Event()

    async def answer(request: ConverseRequest) -> AsyncIterator[str | TextReplacement]:
        text = request.input.parts[0].text
        if text == "stop":
            yield "半"
            await halted.wait()
        elif text == "swap":
            yield "很长的一段话"
            yield FAILOVER
            yield "短"
        else:
            yield f"<{text}>"

    async with FakeService(answer) as fake:
        terminal = await Terminal.start("chat", "--target", fake.target, "--conversation", "c")
        await terminal.expect("you> ")
        terminal.type("一\n")
        await terminal.expect("\x1b[1massistant> \x1b[0m<一>")
        await terminal.expect("you> ")
        terminal.type("swap\n")
        await terminal.expect("很长的一段话\r\x1b[J\x1b[1massistant> \x1b[0m短")
        await terminal.expect("you> ")
        terminal.type("stop\n")
        await terminal.expect("半")
        terminal.process.send_signal(signal.SIGINT)
        await terminal.expect("(stopped)")
        await fake.until(lambda: fake.turns()[2].state == Turn.CANCELLED)
        await terminal.expect("you> ")
        terminal.type("/reset\n")
        await terminal.expect("(forgotten)")
        await terminal.expect("you> ")
        terminal.type("二\n")
        await terminal.expect("<二>")
        await terminal.expect("you> ")
        terminal.type("\x04")
        assert await terminal.ended() == 0
        assert "Traceback" not in terminal.shown
        assert [call.method for call in fake.calls] == [
            "GetAssistant",
            *["StreamConverse"] * 3,
            "CancelTurn",
            "ResetConversation",
            "StreamConverse",
        ]


async def test_ctrl_c_at_the_prompt_leaves() -> None:
    async with FakeService() as fake:
        terminal = await Terminal.start("chat", "--target", fake.target, NO_COLOR="1")
        await terminal.expect("you> ")
        while terminal.process.returncode is None:
            # A signal between the prompt and the wait behind it is lost in CPython's readline: press again.
            terminal.process.send_signal(signal.SIGINT)
            with suppress(TimeoutError):
                await asyncio.wait_for(terminal.process.wait(), 0.5)
        assert await terminal.ended() == 0
        assert "Traceback" not in terminal.shown
        assert "\x1b[1m" not in terminal.shown


# --- What is shown ---------------------------------------------------------------------


def screen(columns: int = 20, lines: int = 4, *, colour: bool = True) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(out, colour=colour, size=lambda: terminal_size((columns, lines))), out


class Paper:
    """A terminal of a few rules: enough to tell what a person sees."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines: list[list[str]] = [[]]
        self.row = 0

    def write(self, text: str) -> None:
        text = text.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[2m", "")
        position = 0
        while position < len(text):
            if text[position] == "\x1b":
                end = next(index for index in range(position + 2, len(text)) if text[index].isalpha())
                self._escape(text[position + 2 : end], text[end])
                position = end
            elif text[position] == "\r":
                self.column = 0
            elif text[position] == "\n":
                self._next_row()
            else:
                self._put(text[position])
            position += 1

    def _escape(self, number: str, kind: str) -> None:
        if kind == "A":
            self.row -= int(number)
        else:
            del self.lines[self.row + 1 :]
            self.lines[self.row] = []

    def _next_row(self) -> None:
        self.row += 1
        self.lines.append([])

    def _put(self, character: str) -> None:
        width = 2 if character >= "\u3000" else 1
        if sum(2 if one >= "\u3000" else 1 for one in self.lines[self.row]) + width > self.columns:
            self._next_row()
        self.lines[self.row].append(character)

    def text(self) -> str:
        return "".join("".join(line) for line in self.lines)


@given(st.lists(st.text("ab字\n", max_size=30), min_size=1, max_size=6), st.integers(12, 30))
def test_what_stands_on_a_terminal_is_the_last_text(texts: list[str], columns: int) -> None:
    shown, out = screen(columns, lines=1000)
    for text in texts:
        shown.update(text)
    paper = Paper(columns)
    paper.write(out.getvalue())
    assert paper.text() == ASSISTANT + texts[-1].replace("\n", "")


def test_what_has_scrolled_away_is_not_drawn_over() -> None:
    shown, out = screen(lines=2)
    shown.update("一\n二\n三")
    shown.update("别的")
    shown.end("(n)")
    assert "\x1b[J" not in out.getvalue()
    assert out.getvalue().endswith(
        "(the reply was replaced)\x1b[0m\n\x1b[1massistant> \x1b[0m别的\n\x1b[2m(n)\x1b[0m\n"
    )


def test_rows_of_a_terminal() -> None:
    assert rows("", 10) == 1
    assert rows("a" * 10, 10) == 1
    assert rows("a" * 11, 10) == 2
    assert rows("字" * 5, 10) == 1
    assert rows("a" + "字" * 5, 10) == 2
    assert rows("a\n\nb", 10) == 3
    assert rows("a\tb", 8) == 2
    assert rows("e\u0301" * 10, 10) == 1


def test_a_reply_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\r\nc\td\u202e\x9b") == "a[2Jb\nc\td\u202e"
    assert readable("a\udcff") == "a\ufffd"
    assert describe(RateLimited("x")) == "RATE_LIMITED: x"
