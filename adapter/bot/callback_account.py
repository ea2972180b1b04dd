"""Makes intelligent bots in callback mode from their settings."""

from aiohttp import web
from yarl import URL

from adapter.access.admission import Admission
from adapter.access.admitting import access_to
from adapter.access.rules import Access, Allowed
from adapter.account import Account, Shared
from adapter.backoff import Backoff
from adapter.bot.callback import BotCallbackAccount, BotCallbackDoor
from adapter.bot.callback_courier import BotCallbackCourier, FetchTiming, Settling
from adapter.callbacks.keyring import Keyring, keyring_of
from adapter.delivery import Lease
from adapter.greeting import greeting
from adapter.media.attachments import Attachments
from adapter.rating import rating
from adapter.rest.secret_address import SecretAddress
from adapter.settings import CallbackBotSettings
from adapter.submission import Submission, account_name
from adapter.translate import Incoming, read_address


def bot_keyring(name: str, bot: CallbackBotSettings) -> Keyring:
    """What opens the callbacks of a bot. Raises as :func:`keyring_of`."""
    return keyring_of(f"callback_bots.{name}", bot, "")


class _Media:
    """Fetches nothing for who may not use the bot: the message goes no further than to the next who asks."""

    def __init__(self, attachments: Attachments, access: Access) -> None:
        self._attachments = attachments
        self._access = access

    async def fill(self, incoming: Incoming, seconds: float) -> Incoming:
        """See :class:`adapter.media.attachments.Attachments`."""
        if not incoming.attachments:
            return incoming
        if not isinstance(await self._access.decide(read_address(incoming.address).user), Allowed):
            return incoming
        return await self._attachments.fill(incoming, seconds)


def callback_bots(shared: Shared) -> tuple[list[Account], list[web.RouteDef]]:
    """Every bot in callback mode of the settings, and the addresses that WeCom calls for them."""
    bots = shared.settings.callback_bots
    if not bots:
        return [], []
    made = {name: _bot(shared, name, bot) for name, bot in bots.items()}
    door = BotCallbackDoor(
        {name: called for name, (called, _) in made.items()},
        shared.client,
        shared.gate,
        shared.metrics,
        submit_seconds=shared.settings.listen.submit_seconds,
        pseudonym_key=shared.pseudonym_key,
    )
    return [account for _, account in made.values()], door.routes()


def _bot(shared: Shared, name: str, bot: CallbackBotSettings) -> tuple[BotCallbackAccount, Account]:
    wecom, delivery = shared.settings.wecom, shared.settings.delivery
    timing = FetchTiming(close=bot.close_seconds, end=bot.window_seconds, grace=bot.grace_seconds)
    courier = BotCallbackCourier(
        shared.client,
        SecretAddress(shared.session, request_seconds=wecom.request_seconds),
        shared.metrics,
        timing=timing,
        allowed_host=URL(wecom.api_base).host or "",
        longest_pause=delivery.retry_seconds,
    )
    lease = Lease(
        shared.client,
        courier,
        shared.metrics,
        account=account_name(name),
        instance=shared.instance,
        door="bot_callback",
        max_open=delivery.max_open,
        ended_only=True,
        backoff=Backoff(0.2, delivery.reconnect_seconds),
    )
    access = access_to(shared, name, bot)
    called = BotCallbackAccount(
        bot_keyring(name, bot),
        bot.bot_id,
        bot.name,
        Admission(access, Submission(shared.client, name, bot.assistant)),
        _Media(shared.media.of_bot(), access),
        greeting(shared.client, access),
        rating(shared.client, seconds=shared.settings.listen.submit_seconds),
        Settling(shared.client, courier, lease.settle),
        timing,
    )
    return called, Account(lease.run, lease.drain)
