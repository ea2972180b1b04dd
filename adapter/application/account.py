"""Makes self-built applications from their settings."""

from collections.abc import Mapping
from functools import partial

from aiohttp import web

from adapter.access.admission import Admission
from adapter.access.admitting import access_to, directory_changed
from adapter.account import Account, Shared
from adapter.application.callback import AppAccount, AppDoor
from adapter.application.courier import AppCourier
from adapter.application.sending import GROUP_MESSAGES_PER_MINUTE, Outlet, tell
from adapter.backoff import Backoff
from adapter.callbacks.keyring import Keyring, keyring_of
from adapter.delivery import Lease
from adapter.greeting import greeting
from adapter.kf.callback import KfAccount
from adapter.media.whole import WholeSubmission
from adapter.recently_sent import MemberPace, RecentlySent
from adapter.rest.errors import ContentRefused
from adapter.settings import AppSettings
from adapter.submission import Submission, account_name
from adapter.text.capabilities import DOORS


def keyring(name: str, app: AppSettings) -> Keyring:
    """What opens the callbacks of an application. Raises as :func:`keyring_of`."""
    return keyring_of(f"apps.{name}", app, app.corp_id)


def applications(shared: Shared, desks: Mapping[str, KfAccount]) -> tuple[list[Account], list[web.RouteDef]]:
    """Every application of the settings, and the addresses that WeCom calls for them.

    Args: ``desks`` are the accounts of customer service, by name.
    """
    apps = shared.settings.apps
    if not apps:
        return [], []
    outlets = {name: _outlet(shared, name, app) for name, app in apps.items()}
    door = AppDoor(
        {
            name: _called(shared, name, app, outlets[name], desks.get(app.customer_service))
            for name, app in apps.items()
        },
        shared.gate,
        shared.metrics,
        submit_seconds=shared.settings.listen.submit_seconds,
        pseudonym_key=shared.pseudonym_key,
    )
    return [_delivering(shared, name, outlet) for name, outlet in outlets.items()], door.routes()


def _called(shared: Shared, name: str, app: AppSettings, outlet: Outlet, desk: KfAccount | None) -> AppAccount:
    access = access_to(shared, name, app)
    whole = WholeSubmission(
        Submission(shared.client, name, app.assistant),
        shared.media.of_application(shared.apis[name]),
        seconds=shared.settings.media.callback_seconds,
    )
    shared.stack.push_async_callback(whole.aclose)
    return AppAccount(
        keyring(name, app),
        Admission(access, whole),
        str(app.agent_id),
        partial(tell, outlet),
        greeting(shared.client, access),
        app.menu,
        partial(directory_changed, shared),
        desk.hears if desk is not None else None,
    )


def _outlet(shared: Shared, name: str, app: AppSettings) -> Outlet:
    wecom = shared.settings.wecom
    return Outlet(
        api=shared.apis[name],
        metrics=shared.metrics,
        agent_id=app.agent_id,
        interval=wecom.duplicate_check_seconds,
        sent=RecentlySent(wecom.duplicate_check_seconds),
        pace=MemberPace(wecom.member_messages_per_minute, wecom.member_messages_per_hour),
        group_pace=MemberPace(GROUP_MESSAGES_PER_MINUTE, 0),
        markdown=app.reply_type == "markdown",
        cards=app.cards,
        file_above=shared.settings.media.file_above_bytes,
        upload=shared.media.uploads(
            shared.apis[name].upload, DOORS["app_text"].files, lambda: ContentRefused(40005, "media/upload")
        ),
    )


def _delivering(shared: Shared, name: str, outlet: Outlet) -> Account:
    delivery = shared.settings.delivery
    lease = Lease(
        shared.client,
        AppCourier(outlet, longest_pause=delivery.retry_seconds),
        shared.metrics,
        account=account_name(name),
        instance=shared.instance,
        door="app",
        max_open=delivery.max_open,
        ended_only=True,
        backoff=Backoff(0.2, delivery.reconnect_seconds),
    )
    return Account(lease.run, lease.drain)
