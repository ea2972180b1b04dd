"""Keys that change: present and next side by side, and files that are reread."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from adapter.callbacks.keyring import Keyring
from adapter.crypto import Envelope, EnvelopeError
from adapter.metrics import Metrics
from adapter.rereading import Rereading, watched
from adapter.settings import AppSettings, BotSettings, Settings
from program.secret import Secret
from program.settings import load

CORP = "ww0123456789simula"
OLD = ("OldToken", "A" * 43)
NEW = ("NewToken", "B" * 43)


def sealed_with(token: str, key: str, nonce: str = "n") -> tuple[str, str, str, str]:
    sealed = Envelope(token, key, CORP).seal(b"<xml/>", "1700000000", nonce)
    return sealed.msg_signature, sealed.timestamp, sealed.nonce, sealed.encrypted


def opens(keyring: Keyring, token: str, key: str) -> bool:
    try:
        return keyring.open(*sealed_with(token, key)) == b"<xml/>"
    except EnvelopeError:
        return False


def both() -> Keyring:
    return Keyring(
        Secret(OLD[0]), Secret(OLD[1]), CORP, next_token=Secret(NEW[0]), next_encoding_aes_key=Secret(NEW[1])
    )


def test_every_pair_of_present_and_next_opens_and_nothing_else() -> None:
    keyring = both()
    for token in (OLD[0], NEW[0]):
        for key in (OLD[1], NEW[1]):
            assert opens(keyring, token, key)
            assert not opens(keyring, "Other", key)
        assert not opens(keyring, token, "C" * 43)


def test_without_next_only_the_present_pair_opens() -> None:
    keyring = Keyring(Secret(OLD[0]), Secret(OLD[1]), CORP)
    assert opens(keyring, *OLD)
    assert not opens(keyring, *NEW)
    assert not opens(keyring, OLD[0], NEW[1])


@pytest.mark.parametrize("pair", [OLD, NEW, (OLD[0], NEW[1]), (NEW[0], OLD[1])])
def test_a_reply_is_sealed_with_what_opened_its_callback(pair: tuple[str, str]) -> None:
    keyring = both()
    keyring.open(*sealed_with(*OLD, nonce="before"))
    keyring.open(*sealed_with(*pair, nonce="mine"))
    keyring.open(*sealed_with(*NEW, nonce="after"))
    reply = keyring.seal(b"reply", "1700000000", "mine")
    opened = Envelope(*pair, CORP).open(reply.msg_signature, reply.timestamp, reply.nonce, reply.encrypted)
    assert opened == b"reply"


def test_the_refusal_that_got_furthest_is_the_one_that_is_told() -> None:
    with pytest.raises(EnvelopeError) as refused:
        both().open(*sealed_with(NEW[0], "C" * 43))
    assert refused.value.code != EnvelopeError.SIGNATURE


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"token": Secret("no token")}, "token"),
        ({"encoding_aes_key": Secret("short")}, "encoding_aes_key"),
        ({"next_token": Secret("no token")}, "next_token"),
        ({"next_encoding_aes_key": Secret("short")}, "next_encoding_aes_key"),
    ],
)
def test_a_malformed_key_is_named_and_not_quoted(changed: dict[str, Secret], field: str) -> None:
    given = {"token": Secret(OLD[0]), "encoding_aes_key": Secret(OLD[1])} | changed
    token, key = given.pop("token"), given.pop("encoding_aes_key")
    with pytest.raises(ValueError, match=f"^{field}: must be") as wrong:
        Keyring(token, key, CORP, **given)
    assert "short" not in str(wrong.value)


# --- files -------------------------------------------------------------------------------


class Files:
    """An application whose secrets are files, and a bot with one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.put(token=OLD[0], key=OLD[1], next_token="", next_key="", secret="first", bot="bot-first")
        text = f"""
            [apps.assistant]
            corp_id = "{CORP}"
            agent_id = 1000002
            secret = "file:{folder}/secret"
            token = "file:{folder}/token"
            encoding_aes_key = "file:{folder}/key"
            next_token = "file:{folder}/next_token"
            next_encoding_aes_key = "file:{folder}/next_key"
            [bots.helper]
            bot_id = "aib1"
            secret = "file:{folder}/bot"
            [bots.other]
            bot_id = "aib2"
            secret = "env:BOT"
        """
        (folder / "adapter.toml").write_text(text, encoding="utf-8")
        self.settings = load(Settings, folder / "adapter.toml", {"BOT": "bot-secret"}, "WECONVERSE_ADAPTER")
        self.app: AppSettings = self.settings.apps["assistant"]
        self.bot: BotSettings = self.settings.bots["helper"]
        self.registry = CollectorRegistry()
        self.rereading = Rereading(watched(self.settings), Metrics(self.registry))
        self.keyring = Keyring(
            self.app.token,
            self.app.encoding_aes_key,
            CORP,
            next_token=self.app.next_token,
            next_encoding_aes_key=self.app.next_encoding_aes_key,
        )

    def put(self, **contents: str) -> None:
        """By rename, as mounted secrets change."""
        for name, content in contents.items():
            fresh = self.folder / f"{name}.new"
            fresh.write_text(content + "\n", encoding="utf-8")
            fresh.replace(self.folder / name)

    def counted(self, result: str) -> float:
        return self.registry.get_sample_value("weconverse_adapter_secret_rereads_total", {"result": result}) or 0.0


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_every_secret_of_an_account_in_a_file_is_watched(files: Files) -> None:
    fields = [field for field, _ in watched(files.settings)]
    assert set(fields) == {
        "apps.assistant.secret",
        "apps.assistant.token",
        "apps.assistant.encoding_aes_key",
        "apps.assistant.next_token",
        "apps.assistant.next_encoding_aes_key",
        "bots.helper.secret",
    }
    assert fields.index("apps.assistant.next_token") < fields.index("apps.assistant.token")


async def test_a_change_is_seen_at_the_next_look(files: Files) -> None:
    heard: list[str] = []
    files.rereading.on_change(files.bot.secret, lambda: heard.append(files.bot.secret.reveal()))
    await files.rereading.look()
    assert files.counted("changed") == 0
    files.put(secret="second", bot="bot-second")
    await files.rereading.look()
    assert files.app.secret.reveal() == "second"
    assert heard == ["bot-second"]
    assert files.counted("changed") == 2


async def test_what_cannot_be_used_leaves_the_last_good_one(files: Files) -> None:
    for content in ("", "no token", "x" * 33):
        files.put(token=content)
        await files.rereading.look()
        assert opens(files.keyring, *OLD)
    assert files.counted("malformed") == 1  # the same is said once
    (files.folder / "token").unlink()
    for _ in range(3):
        await files.rereading.look()
    assert files.counted("unreadable") == 1
    (files.folder / "key").unlink()
    os.mkfifo(files.folder / "key")
    (files.folder / "secret").write_bytes(b"\xff\xfe")
    async with asyncio.timeout(5):
        await files.rereading.look()
    assert opens(files.keyring, *OLD)
    assert files.app.secret.reveal() == "first"
    files.put(token=NEW[0])
    await files.rereading.look()
    assert opens(files.keyring, NEW[0], OLD[1])


async def test_no_order_of_writing_and_looking_closes_the_door(files: Files) -> None:
    def steps() -> Iterator[tuple[dict[str, str], tuple[tuple[str, str], ...]]]:
        """What the operator writes, and which keys WeCom may use from then until the next step."""
        yield {"next_token": NEW[0]}, (OLD,)
        yield {"next_key": NEW[1]}, (OLD, NEW)  # here the console is saved
        yield {"token": NEW[0]}, (NEW,)
        yield {"key": NEW[1]}, (NEW,)
        yield {"next_key": ""}, (NEW,)
        yield {"next_token": ""}, (NEW,)

    for written, used in steps():
        files.put(**written)
        await files.rereading.look()
        assert all(opens(files.keyring, *pair) for pair in used)
    assert not opens(files.keyring, *OLD)


async def test_a_value_that_moves_while_it_is_looked_for_is_never_nowhere(tmp_path: Path) -> None:
    """From next to present, after each of the reads of a look; and callbacks come all the while."""
    for moved_after in range(7):
        folder = tmp_path / str(moved_after)
        folder.mkdir()
        moving = Files(folder)
        moving.put(next_token=NEW[0], next_key=NEW[1])
        await moving.rereading.look()
        reads: list[str] = []

        def read(path: str, moving: Files = moving, moved_after: int = moved_after, reads: list[str] = reads) -> str:
            if len(reads) == moved_after:
                moving.put(token=NEW[0], key=NEW[1])
                moving.put(next_token="", next_key="")
            reads.append(path)
            return Path(path).read_text(encoding="utf-8").strip()

        rereading = Rereading(watched(moving.settings), Metrics(CollectorRegistry()), read=read)
        looking = asyncio.create_task(rereading.look())
        while not looking.done():
            assert opens(moving.keyring, *NEW)
            await asyncio.sleep(0)
        await looking
        assert opens(moving.keyring, *NEW)
        assert len(reads) == 6


async def test_the_task_looks_again_and_again_and_only_where_there_are_files(files: Files) -> None:
    looks: list[float] = []
    third = asyncio.Event()

    async def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            third.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(
        Rereading(watched(files.settings), Metrics(CollectorRegistry()), seconds=7.0, sleep=sleep).run()
    )
    files.put(secret="second")
    await asyncio.wait_for(third.wait(), 5)
    task.cancel()
    assert looks == [7.0, 7.0, 7.0]
    assert files.app.secret.reveal() == "second"
    await asyncio.wait_for(Rereading(iter(()), Metrics(CollectorRegistry())).run(), 5)
