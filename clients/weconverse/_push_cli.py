"""The part of the command line that sends messages: ``python -m weconverse push …``."""

import argparse
import json
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Final

from weconverse.v1.conversation_pb2 import Media, Part

CARD_TYPE: Final = "application/vnd.wecom.template-card+json"
"""The type of a card unless its sender says otherwise: the one that the channel of WeCom documents."""

_UNKNOWN: Final = "application/octet-stream"


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> None:
    """Adds ``push``. Args: ``common`` has the options of every command."""
    push = commands.add_parser("push", parents=[common], help="send a message through a channel; prints its name")
    push.add_argument("account", help="who sends it: channels/{channel}/accounts/{account}")
    push.add_argument("text", nargs="?", default="", help="the message; - reads it from standard input")
    push.add_argument("--to", default="", metavar="RECIPIENT", help="who gets it, as the channel documents it")
    push.add_argument("--file", action="append", default=[], metavar="PATH", help="a picture or file; may be repeated")
    push.add_argument("--card", default="", metavar="FILE", help="a card of the platform, as JSON")
    push.add_argument("--card-type", default=CARD_TYPE, metavar="TYPE", help="the card's media type (%(default)s)")
    push.add_argument("--id", default="", metavar="REQUEST_ID", help="the same id is sent once, however often")
    push.add_argument("--assistant", default="", help="whose filter it passes; the service's default without it")


def parts_of(args: argparse.Namespace, text: str, readable: Callable[[str], str]) -> list[Part]:
    """The message that was asked for: text, card, files.

    Raises:
        ValueError: if it is empty, or the card is no JSON.
        OSError: if a file cannot be read.
    """
    parts = [Part(text=text)] if text.strip() else []
    if args.card:
        card = Path(args.card).read_bytes()
        json.loads(card)  # a card that cannot be read is noticed here, by whoever wrote it
        parts.append(Part(media=Media(mime_type=args.card_type, inline_data=card)))
    for name in args.file:
        path = Path(name)
        media = Media(mime_type=mimetypes.guess_type(path.name)[0] or _UNKNOWN, inline_data=path.read_bytes())
        media.display_name = readable(path.name)
        parts.append(Part(media=media))
    if not parts:
        raise ValueError("give a text, --card or --file")
    return parts
