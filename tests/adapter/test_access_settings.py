"""Settings of access, sources and keys: what is refused, with the field and the remedy; and what ``--check`` says."""

from pathlib import Path

import pytest

from adapter.__main__ import PROGRAM
from adapter.app import plan
from adapter.settings import Settings, accounts, assistants, check
from program.run import OK, run
from program.settings import SettingsError, load, printable

GOOD = """
[directory]
app = "assistant"

[sources]
mode = "log"
allow = ["10.0.0.0/8", "101.226.103.*"]
trusted_proxies = ["127.0.0.1"]

[apps.assistant]
corp_id = "ww1436e0e65a779aee"
agent_id = 1000002
secret = "s"
token = "hJqcu3uJ9Tn2gXPmxx2w9kkCkCE2EPYo"
encoding_aes_key = "6qkdMrq68nTKduznJYO1A37W2oEgpkMUvkttRToqhUt"
assistant = "general"

[[apps.assistant.access]]
departments = [2]
assistant = "dev"

[[apps.assistant.access]]
everyone = true

[apps.second]
corp_id = "ww1436e0e65a779aee"
agent_id = 1000003
secret = "t"
token = "t"
encoding_aes_key = "6qkdMrq68nTKduznJYO1A37W2oEgpkMUvkttRToqhUt"
assistant = "second"

[bots.helper]
bot_id = "aib1"
secret = "bot-secret"
refusal = "不行"

[[bots.helper.access]]
members = ["ada"]
tags = [7]

[bots.other]
bot_id = "aib2"
secret = "bot-secret"
assistant = "other"
"""


def settings_of(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "adapter.toml"
    file.write_text(text, encoding="utf-8")
    return load(Settings, file, {}, "WECONVERSE_ADAPTER")


def test_check_speaks_of_each_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter.toml").write_text(GOOD, encoding="utf-8")
    assert run(PROGRAM, ["--config", str(tmp_path / "adapter.toml"), "--check"], {}) == OK
    shown = capsys.readouterr().out.splitlines()
    for line in (
        "access to assistant: 2 rules, with the directory as assistant sees it",
        "access to helper: 1 rule, with the directory as assistant sees it; everybody else is refused",
        "assistants of assistant: general, dev",
        "assistants of second: second",
        "assistants of helper: default",
        "assistants of other: other",
        "callbacks from elsewhere: counted and named",
    ):
        assert any(line in one for one in shown), line


def test_every_account_and_every_assistant_is_known(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, GOOD)
    check(settings)
    found = {name: list(assistants(account)) for _, name, account in accounts(settings)}
    assert found == {
        "assistant": ["general", "dev"],
        "second": ["second"],
        "helper": ["default"],
        "other": ["other"],
    }


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, GOOD)
    again = settings_of(tmp_path, printable(settings).replace("********", "x"))
    assert again.apps["assistant"].access == settings.apps["assistant"].access
    assert again.sources == settings.sources


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (("departments = [2]", ""), "apps.assistant.access[0]", "about nobody"),
        (("departments = [2]", "everyone = true"), "apps.assistant.access[0].everyone", "the last one"),
        (("departments = [2]", 'departments = ["2"]'), "apps.assistant.access[0].departments", "whole number"),
        (("departments = [2]", "department = [2]"), "apps.assistant.access[0].department", "departments"),
        (("departments = [2]", "departments = [0]"), "apps.assistant.access[0].departments", ">= 1"),
        (("departments = [2]", 'members = [""]'), "apps.assistant.access[0].members", "regex"),
        (("[[bots.helper.access]]", "[bots.helper.access]"), "bots.helper.access", "[[bots.helper.access]]"),
        (('app = "assistant"', ""), "bots.helper.access[0].tags", "directory.app"),
        (('app = "assistant"', 'app = "helper"'), "directory.app", "not among the apps"),
        (("bots.other", "bots.second"), "bots.second", "apps.second"),
        (('refusal = "不行"', 'refusal = ""'), "bots.helper.refusal", "length"),
        (("10.0.0.0/8", "10.0.0.1/8"), "sources.allow[0]", "CIDR"),
        (("127.0.0.1", "localhost"), "sources.trusted_proxies[0]", "CIDR"),
        (('mode = "log"', 'mode = "log"\napp = "helper"'), "sources.app", "sources.wecom"),
        (('mode = "log"', 'mode = "warn"'), "sources.mode", "enforce"),
        (
            ('allow = ["10.0.0.0/8", "101.226.103.*"]', "wecom = false"),
            "sources.allow",
            "nobody could call",
        ),
        (('token = "t"', 'token = "t"\nnext_token = "no token"'), "apps.second.next_token", "letters and digits"),
        (
            ('token = "t"', 'token = "t"\nnext_encoding_aes_key = "x"'),
            "apps.second.next_encoding_aes_key",
            "43",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: tuple[str, str], field: str, words: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(SettingsError) as wrong:
        list(plan(settings_of(tmp_path, GOOD.replace(*change))))
    assert wrong.value.field == field
    assert words in wrong.value.rule
