"""Makes intelligent bots over the long connection from their settings."""

from adapter.access.admission import Admission
from adapter.access.admitting import access_to
from adapter.account import Account, Shared
from adapter.backoff import Backoff
from adapter.bot.connection import connecting
from adapter.bot.courier import BotCourier
from adapter.bot.errors import NOT_SENDABLE, FrameRefused
from adapter.bot.inbox import BotInbox
from adapter.bot.line import BotLine
from adapter.bot.showing import BotTiming
from adapter.bot.socket import BotDoor, telling
from adapter.bot.upload import BotUpload
from adapter.delivery import Lease
from adapter.greeting import greeting
from adapter.media.whole import FilledSubmission
from adapter.rating import rating
from adapter.recently_sent import MemberPace
from adapter.settings import BotSettings
from adapter.submission import Submission, account_name
from adapter.text.capabilities import DOORS
from weconverse import TurnOptions


def socket_bots(shared: Shared) -> list[Account]:
    """Every bot of the settings that has a long connection."""
    return [_bot(shared, name, bot) for name, bot in shared.settings.bots.items()]


def _bot(shared: Shared, name: str, bot: BotSettings) -> Account:
    delivery = shared.settings.delivery
    line = BotLine(
        lambda: connecting(
            shared.session,
            shared.settings.wecom.socket_base,
            shared.metrics,
            connect_seconds=bot.subscribe_seconds,
            ack_seconds=bot.ack_seconds,
            heartbeat_seconds=bot.heartbeat_seconds,
        ),
        shared.metrics,
        account=name,
        bot_id=bot.bot_id,
        secret=bot.secret,
        subscribe_seconds=bot.subscribe_seconds,
    )
    shared.rereading.on_change(bot.secret, line.secret_changed)
    timing = BotTiming(refresh=bot.refresh_seconds, thinking=bot.thinking_seconds, stream=bot.stream_seconds)
    lease = Lease(
        shared.client,
        BotCourier(
            shared.client,
            line,
            shared.metrics,
            timing=timing,
            pace=MemberPace(bot.conversation_messages_per_minute, bot.conversation_messages_per_hour),
            upload=shared.media.uploads(
                BotUpload(line), DOORS["bot"].files, lambda: FrameRefused(NOT_SENDABLE, "a file")
            ),
            longest_pause=delivery.retry_seconds,
        ),
        shared.metrics,
        account=account_name(name),
        instance=shared.instance,
        door="bot",
        max_open=delivery.max_open,
        exclusive=True,
        backoff=Backoff(0.2, delivery.reconnect_seconds),
    )
    access = access_to(shared, name, bot)
    filled = FilledSubmission(
        Submission(shared.client, name, bot.assistant, paced(bot.refresh_seconds)),
        shared.media.of_bot(),
        seconds=shared.settings.media.fetch_seconds,
        kept_seconds=bot.submit_window_seconds,
    )
    inbox = BotInbox(
        Admission(access, filled),
        telling(line),
        shared.metrics,
        account=name,
        max_waiting=bot.max_waiting,
        window_seconds=bot.submit_window_seconds,
    )
    door = BotDoor(
        line,
        lease,
        inbox,
        shared.metrics,
        account=name,
        name=bot.name,
        greeting=greeting(shared.client, access),
        rate=rating(shared.client),
        kicked_pause=bot.kicked_pause_seconds,
        pseudonym_key=shared.pseudonym_key,
    )
    return Account(door.run, door.drain)


def paced(refresh_seconds: float) -> TurnOptions:
    """Asks for deltas half as far apart as the refreshes that show them: more would only cost."""
    options = TurnOptions()
    options.delta_interval.FromNanoseconds(int(min(2.0, refresh_seconds / 2) * 1e9))
    return options
