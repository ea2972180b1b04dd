"""``python -m weconverse push``: a script that tells people something."""

from pathlib import Path

import pytest

from tests.clients.test_cli import run
from weconverse import FailedPrecondition, Turn
from weconverse.testing import FakeService
from weconverse.v1.channel_pb2 import PushRequest

ACCOUNT = "channels/wecom/accounts/robot"


async def test_text_card_and_files_are_sent_as_one_message(tmp_path: Path) -> None:
    card, picture, other = tmp_path / "card.json", tmp_path / "图.png", tmp_path / "a.unknown"
    card.write_text('{"card_type": "text_notice"}')
    picture.write_bytes(b"png")
    other.write_bytes(b"?")
    async with FakeService() as fake:
        arguments = ("push", ACCOUNT, "-", "--to", "user:u", "--card", str(card), "--assistant", "ops")
        files = ("--file", str(picture), "--file", str(other))
        code, out, err = await run(*arguments, *files, "--target", fake.target, stdin="磁盘满了".encode())
        assert (code, err) == (0, "")
        [turn] = fake.turns()
        assert out == f"{turn.name}\n"
        assert turn.delivery_state == Turn.OWED
        [sent] = fake.requests("Push", PushRequest)
    assert (sent.account, sent.recipient, sent.assistant) == (ACCOUNT, "user:u", "assistants/ops")
    text, *media = sent.content.parts
    assert text.text == "磁盘满了"
    assert [(part.media.mime_type, part.media.display_name) for part in media] == [
        ("application/vnd.wecom.template-card+json", ""),
        ("image/png", "图.png"),
        ("application/octet-stream", "a.unknown"),
    ]
    assert media[1].media.inline_data == b"png"


async def test_the_same_id_is_sent_once() -> None:
    async with FakeService() as fake:
        for _ in range(2):
            assert (await run("push", ACCOUNT, "x", "--id", "A-1", "--target", fake.target))[0] == 0
        assert len(fake.turns()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "account"),
        ((ACCOUNT,), "give a text"),
        ((ACCOUNT, " "), "give a text"),
        ((ACCOUNT, "x", "--file", "nowhere.png"), "nowhere.png"),
        ((ACCOUNT, "x", "--card", __file__), "Extra data"),
    ],
)
async def test_what_cannot_be_meant(arguments: tuple[str, ...], words: str) -> None:
    code, out, err = await run("push", *arguments, "--target", "127.0.0.1:1")
    assert (code, out) == (2, "")
    assert words in err


async def test_a_service_that_says_no() -> None:
    async with FakeService() as fake:
        fake.fail_next(FailedPrecondition("no"))
        code, out, err = await run("push", ACCOUNT, "x", "--target", fake.target)
    assert (code, out) == (1, "")
    assert err.startswith("weconverse: ")
