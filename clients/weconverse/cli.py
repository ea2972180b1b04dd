"""The command line: ``python -m weconverse chat``, ``ask``, ``push``, and ``lexicon`` for administrators.

Exit codes: 0 when all went well, 1 with one line on standard error when the service said
no or cannot be reached, 2 for a command that cannot be meant, 130 after Ctrl-C in ``ask``,
``push`` and ``lexicon``.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TextIO

import grpc

from weconverse import _lexicon_cli, _push_cli
from weconverse._names import conversation_name, new_request_id
from weconverse._options import DEFAULT_TARGET, DEFAULT_TIMEOUT
from weconverse._requests import text_of
from weconverse._terminal import Screen
from weconverse.admin import AdminClient
from weconverse.blocking import BlockingClient
from weconverse.errors import ResourceNotFound, WeConverseError
from weconverse.v1.conversation_pb2 import Turn

CHANNEL = "cli"
"""The label under which the service counts these turns."""

HELP = "/reset forgets what was said · /history [n] shows earlier turns · /quit leaves · Ctrl-C stops a reply"

DEFAULT_HISTORY = 10
"""How many turns ``/history`` shows without a number."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = _parser(os.environ)
    args = parser.parse_args(argv)
    try:
        return {"lexicon": _lexicon, "push": _push}.get(args.command, _converse)(args, parser)
    except WeConverseError as error:
        print(f"weconverse: {describe(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has left (``| head``). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _converse(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        client = BlockingClient(
            args.target, token=args.token or None, credentials=_credentials(args), timeout=args.timeout
        )
        conversation = conversation_name(args.conversation or f"cli.{new_request_id()[:12]}")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    with client:
        if args.command == "ask":
            return _ask(client, conversation, args, parser)
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        screen = Screen(sys.stdout, colour=colour)
        return Chat(client, conversation, args.assistant, screen, _line_reader(sys.stdin)).run()


def _push(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        text = readable(sys.stdin.read() if args.text == "-" else args.text)
        parts = _push_cli.parts_of(args, text, readable)
        client = BlockingClient(
            args.target, token=args.token or None, credentials=_credentials(args), timeout=args.timeout
        )
        with client:
            turn = client.push(
                args.account, parts, recipient=args.to, request_id=args.id or None, assistant=args.assistant
            )
        print(turn.name, flush=True)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def _lexicon(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        client = AdminClient(
            args.target, token=args.token or None, credentials=_credentials(args), timeout=args.timeout
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    try:
        asyncio.run(_lexicon_cli.run(client, args, readable))
    except ValueError as error:  # a name that is none
        parser.error(str(error))
    except KeyboardInterrupt:
        return 130
    return 0


def describe(error: WeConverseError) -> str:
    """An error as one line for whoever sits at the terminal."""
    line = " ".join(str(error).split())
    return f"{line} (try again in {error.retry_after:g} s)" if error.retry_after else line


class Chat:
    """A conversation in a terminal, one turn at a time."""

    def __init__(
        self, client: BlockingClient, conversation: str, assistant: str, screen: Screen, read: Callable[[str], str]
    ) -> None:
        """Args: ``read`` asks for a line; it raises ``EOFError`` at the end of input."""
        self._client = client
        self._conversation = conversation
        self._assistant = assistant
        self._screen = screen
        self._read = read

    def run(self) -> int:
        """Chats until the person leaves; the exit code.

        Raises:
            WeConverseError: if the service cannot be reached at the beginning.
        """
        greeting = self._client.get_assistant(self._assistant or "default").greeting
        self._screen.note(f"conversation {self._conversation.partition('/')[2]} · {HELP}")
        if greeting:
            self._screen.update(greeting)
            self._screen.end()
        try:
            while self._one_line():
                pass
        except (EOFError, KeyboardInterrupt):
            # Ctrl-C during a reply is handled there; here nobody is answering, so it means the way out.
            self._screen.note("")
        return 0

    def _one_line(self) -> bool:
        """Takes one line; whether to go on."""
        line = readable(self._read(self._screen.prompt())).strip()
        if not line:
            return True
        if not line.startswith("/"):
            self._turn(line)
            return True
        command, _, argument = line.partition(" ")
        if command in {"/quit", "/exit"}:
            return False
        try:
            self._command(command, argument.strip())
        except WeConverseError as error:
            self._screen.note(describe(error))
        return True

    def _command(self, command: str, argument: str) -> None:
        if command == "/reset":
            with suppress(ResourceNotFound):  # Nothing was said yet: nothing to forget.
                self._client.reset(self._conversation)
            self._screen.note("(forgotten)")
        elif command == "/history" and (not argument or argument.isdecimal()):
            self._history(int(argument or DEFAULT_HISTORY))
        else:
            self._screen.note(HELP)

    def _history(self, count: int) -> None:
        turns = self._client.list_turns(self._conversation, page_size=min(count, 200))
        try:
            latest = list(islice(turns, count))
        except ResourceNotFound:
            latest = []
        for turn in reversed(latest):
            self._screen.said(text_of(turn.input), text_of(turn.reply) or f"({Turn.State.Name(turn.state).lower()})")
        if not latest:
            self._screen.note("(nothing was said yet)")

    def _turn(self, text: str) -> None:
        stream = self._client.stream(
            self._conversation, text, request_id=new_request_id(), assistant=self._assistant, channel=CHANNEL
        )
        try:
            with stream:
                for _ in stream:
                    if stream.text:
                        self._screen.update(stream.text)
        except WeConverseError as error:
            self._screen.end(describe(error))
        except KeyboardInterrupt:
            self._screen.end("(stopped)")
            self._cancel(stream.name)
        else:
            self._screen.end("" if stream.turn is None else _note(stream.turn))

    def _cancel(self, name: str) -> None:
        """Stops a turn at the service. Nothing is lost where that fails: it stops there when nobody waits."""
        if name:
            try:
                self._client.cancel_turn(name, timeout=2.0)
            except WeConverseError as error:
                self._screen.note(describe(error))


def _note(turn: Turn) -> str:
    """What has to be said beside a reply, or in its place."""
    if turn.finish_reason == Turn.HANDED_OFF and not text_of(turn.reply):
        return "(a person has this conversation)"
    return "(cut: the reply reached its limit)" if turn.finish_reason == Turn.LENGTH else ""


def _ask(client: BlockingClient, conversation: str, args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        question = readable(sys.stdin.read() if args.question == "-" else args.question).strip()
        if not question:
            parser.error("the question is empty")
        turn = client.converse(conversation, question, assistant=args.assistant, channel=CHANNEL)
    except KeyboardInterrupt:
        return 130
    print(text_of(turn.reply), flush=True)
    return 0


def readable(text: str) -> str:
    """The text with whatever was not UTF-8 replaced: bytes that Python kept apart cannot be sent."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _line_reader(source: TextIO) -> Callable[[str], str]:
    if source.isatty():
        with suppress(ImportError):  # Importing it gives input() its editing keys; not every Python has it.
            import readline  # noqa: F401
        return input

    def read(prompt: str) -> str:
        line = source.readline()
        if not line:
            raise EOFError
        return line

    return read


def _credentials(args: argparse.Namespace) -> grpc.ChannelCredentials | None:
    """Raises OSError if the file with the authorities cannot be read."""
    if args.ca:
        return grpc.ssl_channel_credentials(Path(args.ca).read_bytes())
    return grpc.ssl_channel_credentials() if args.tls else None


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--target", default=environ.get("WECONVERSE_TARGET", DEFAULT_TARGET), help="host:port (%(default)s)"
    )
    common.add_argument(
        "--token",
        default=environ.get("WECONVERSE_TOKEN", ""),
        help="bearer token; better in WECONVERSE_TOKEN, where other users of the machine cannot read it",
    )
    common.add_argument("--tls", action="store_true", help="encrypt, and trust the well-known authorities")
    common.add_argument("--ca", default="", metavar="FILE", help="encrypt, and trust the authorities of this file")
    common.add_argument(
        "--timeout", type=float, default=DEFAULT_TIMEOUT, metavar="SECONDS", help="for each reply (%(default)g)"
    )
    talk = argparse.ArgumentParser(add_help=False)
    talk.add_argument("--assistant", default="", help="who answers; the service's default without it")
    talk.add_argument("--conversation", default="", metavar="NAME", help="a conversation to go on with")
    parser = argparse.ArgumentParser(prog="weconverse", description="Talks to a WeConverse service.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("chat", parents=[common, talk], help="chat in this terminal", description=HELP)
    ask = commands.add_parser("ask", parents=[common, talk], help="ask one question and print the reply")
    ask.add_argument("question", help="the question; - reads it from standard input")
    _push_cli.add_command(commands, common)
    _lexicon_cli.add_commands(commands, common)
    return parser
