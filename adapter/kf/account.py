"""Makes customer service (微信客服) from its settings."""

import asyncio
from collections.abc import Iterator

from aiohttp import web

from adapter.account import Account, Shared
from adapter.backoff import Backoff
from adapter.callbacks.keyring import Keyring, keyring_of
from adapter.delivery import Lease
from adapter.kf.api import KfApi
from adapter.kf.callback import KfAccount, KfDoor
from adapter.kf.courier import HandingOver, KfCourier
from adapter.kf.cursors import Cursors
from adapter.kf.inbox import KfInbox
from adapter.kf.ledger import Ledger
from adapter.kf.service import KfService
from adapter.kf.sync import KfSync
from adapter.rest.api import WeComApi
from adapter.settings import KfSettings, Settings
from adapter.submission import account_name


def desk_keyring(name: str, desk: KfSettings) -> Keyring:
    """What opens the callbacks of an application's customer service. Raises as :func:`keyring_of`."""
    return keyring_of(f"kf.{name}", desk, desk.corp_id)


def planned_desks(settings: Settings) -> Iterator[str]:
    """What would be done, a line an account. Raises as :func:`desk_keyring`."""
    for name, desk in settings.kf.items():
        desk_keyring(name, desk)
        persons = "customers stay with the assistant"
        if desk.hand_off:
            persons = f"persons: {desk.servicer or 'the waiting pool'}"
        yield f"customer service {name}: callbacks at {settings.listen.address}/wecom/kf/{name}; {persons}"


def desks(shared: Shared) -> tuple[list[Account], list[web.RouteDef], dict[str, KfAccount]]:
    """Customer service of every application of the settings, the addresses that WeCom calls for it, and who is
    called there, by name: an application's own address may hear of customers too."""
    made = {name: _desk(shared, name, desk) for name, desk in shared.settings.kf.items()}
    called = {name: called for name, (called, _) in made.items()}
    routes = KfDoor(called, shared.gate, shared.metrics).routes() if called else []
    return [account for _, account in made.values()], routes, called


def _desk(shared: Shared, name: str, desk: KfSettings) -> tuple[KfAccount, Account]:
    wecom, delivery = shared.settings.wecom, shared.settings.delivery
    http = WeComApi(
        shared.session,
        base=wecom.api_base,
        corp_id=desk.corp_id,
        secret=desk.secret,
        metrics=shared.metrics,
        request_seconds=wecom.request_seconds,
    )
    shared.stack.push_async_callback(http.aclose)
    api, ledger = KfApi(http), Ledger()
    service = KfService(
        shared.client, name, assistant=desk.assistant, assistants=desk.assistants, can_hand_off=desk.hand_off
    )
    inbox = KfInbox(
        service,
        api,
        ledger,
        shared.metrics,
        account=name,
        attachments=shared.media.of_application(http),
        welcome=desk.welcome,
        parallel=desk.parallel,
        fetch_seconds=shared.settings.media.fetch_seconds,
        pseudonym_key=shared.pseudonym_key,
    )
    sync = KfSync(
        api,
        inbox,
        Cursors(desk.state_file),
        shared.metrics,
        account=name,
        open_kfids=desk.assistants,
        poll_seconds=desk.poll_seconds,
    )
    courier = KfCourier(
        api,
        http,
        service,
        ledger,
        shared.metrics,
        account=name,
        handing_over=HandingOver(desk.servicer) if desk.hand_off else None,
        caught_up=sync.caught_up,
        longest_pause=delivery.retry_seconds,
        max_waiting=min(desk.max_waiting, delivery.max_open // 2),
        file_above=shared.settings.media.file_above_bytes,
    )
    lease = Lease(
        shared.client,
        courier,
        shared.metrics,
        account=account_name(name),
        instance=shared.instance,
        door="kf",
        max_open=delivery.max_open,
        exclusive=True,
        ended_only=True,
        backoff=Backoff(0.2, delivery.reconnect_seconds),
    )
    return KfAccount(desk_keyring(name, desk), sync), _account(sync, courier, lease)


def _account(sync: KfSync, courier: KfCourier, lease: Lease) -> Account:
    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(sync.run())
            group.create_task(lease.run(sync.stand))

    async def drain(seconds: float) -> None:
        sync.stop()
        courier.close()
        await lease.drain(seconds)

    return Account(run, drain)
