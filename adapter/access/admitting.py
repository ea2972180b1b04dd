"""Puts the rules of access in front of an account, as its settings say."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

from adapter.access.directory import Directory
from adapter.access.rules import Access
from adapter.account import Shared
from adapter.metrics import Metrics
from adapter.rest.api import WeComApi
from adapter.settings import AppSettings, BotSettings, CallbackBotSettings, Settings, accounts, rules_of


def directories(
    stack: AsyncExitStack, settings: Settings, apis: Mapping[str, WeComApi], metrics: Metrics
) -> dict[str, Directory]:
    """By account name, the directory in which its rules look people up; one for each application that reads it."""
    by_app: dict[str, Directory] = {}
    by_account: dict[str, Directory] = {}
    for _, name, account in accounts(settings):
        if any(rule.departments or rule.tags for rule in rules_of(account)):
            app = settings.directory.app or name
            if app not in by_app:
                by_app[app] = _directory(settings, app, apis[app], metrics)
                stack.push_async_callback(by_app[app].aclose)
            by_account[name] = by_app[app]
    return by_account


def _directory(settings: Settings, app: str, api: WeComApi, metrics: Metrics) -> Directory:
    directory = settings.directory
    return Directory(
        api,
        metrics,
        app=app,
        fresh_seconds=directory.fresh_seconds,
        stale_seconds=directory.stale_seconds,
        unknown_seconds=directory.unknown_seconds,
        request_seconds=directory.request_seconds,
        max_members=directory.max_members,
    )


def access_to(shared: Shared, name: str, account: AppSettings | BotSettings | CallbackBotSettings) -> Access:
    """The rules of an account."""
    return Access(
        account.access,
        shared.directories.get(name),
        shared.metrics,
        account=name,
        assistant=account.assistant,
        refusal=account.refusal,
    )


def directory_changed(shared: Shared, change_type: str, user: str) -> None:
    """Has asked anew what an application heard that it changed: the address book is the same for all of them."""
    for directory in set(shared.directories.values()):
        directory.changed(change_type, user)
