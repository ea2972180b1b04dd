"""Every setting of the adapter: its name, its unit, its default and a sentence.

``docs/configuration.md`` is made from this module. The file is TOML; the environment
overrides it as ``WECONVERSE_ADAPTER__SECTION__KEY``.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, field

from adapter.callbacks.keyring import broken_rule
from adapter.callbacks.ranges import network
from program.secret import Secret
from program.settings import SettingsError

REFUSAL: Final = "抱歉，您暂时没有使用这个助手的权限，请联系管理员开通。"

_ACCOUNT: Final = re.compile("[a-zA-Z0-9._-]{1,64}", re.ASCII)


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings file."""


class ServerSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service that answers."""

    target: Annotated[str, Meta(description="Its gRPC address, as gRPC names targets.", min_length=1)] = (
        "127.0.0.1:50051"
    )
    token: Annotated[
        Secret, Meta(description="The bearer token of this adapter, as `env:NAME` or `file:PATH`. Empty: none.")
    ] = field(default_factory=lambda: Secret(""))
    ca_file: Annotated[
        str, Meta(description="PEM file of the authority that signed the server. Set: the connection uses TLS.")
    ] = ""
    certificate_file: Annotated[
        str, Meta(description="PEM file of this adapter's certificate, where the server asks for one.")
    ] = ""
    key_file: Annotated[str, Meta(description="PEM file of that certificate's private key.")] = ""


class ListenSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port that WeCom calls. A reverse proxy with TLS belongs in front of it."""

    address: Annotated[str, Meta(description="Where to listen, as `host:port`. Port 0 takes a free one.")] = (
        "127.0.0.1:8080"
    )
    insecure_listen: Annotated[
        bool,
        Meta(description="Allows an address beyond loopback, where this port speaks without TLS behind a proxy."),
    ] = False
    max_body_bytes: Annotated[
        int, Meta(description="Bytes a callback may have; more is refused with 413.", ge=1024)
    ] = 64 * 1024
    body_seconds: Annotated[
        float, Meta(description="Seconds a callback's body may take to arrive; later is refused with 408.", gt=0)
    ] = 2.0
    keepalive_seconds: Annotated[
        float, Meta(description="Seconds after which an idle or stalling connection is closed.", gt=0)
    ] = 15.0
    max_connections: Annotated[
        int, Meta(description="Callback connections at a time; further ones are closed at once.", ge=1)
    ] = 1024
    timestamp_window_seconds: Annotated[
        float, Meta(description="Seconds by which a callback's time may differ from ours; others are refused.", gt=0)
    ] = 600.0
    submit_seconds: Annotated[
        float,
        Meta(
            description="Seconds within which the service must have taken a message; WeCom waits for 5.", gt=0, le=4.5
        ),
    ] = 3.5
    drain_seconds: Annotated[
        float, Meta(description="Seconds that callbacks and sends under way get to finish after SIGTERM.", ge=0, le=600)
    ] = 2.5


class OperationsSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port with `/metrics`, `/livez` and `/readyz`."""

    address: Annotated[str, Meta(description="Where to listen, as `host:port`. Empty: nowhere.")] = "127.0.0.1:9465"


class LogSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log lines, one JSON object each. They never hold the text of a message."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The lowest level that is written.")
    ] = "info"
    format: Annotated[Literal["json", "text"], Meta(description="`text` is for reading at a terminal.")] = "json"


class PrivacySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the service learns of people: digests in the place of their identifiers."""

    pseudonym_key: Annotated[
        Secret,
        Meta(
            description="Keeps those digests from being looked up in a list of identifiers, as `env:NAME` or `file:PATH`. The same for every instance; another one begins all conversations anew."
        ),
    ] = field(default_factory=lambda: Secret(""))


class WeComSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where WeCom is, and how patient we are with it."""

    api_base: Annotated[
        str,
        Meta(
            description="The address of the HTTP interface, without `/cgi-bin`. A simulator, a proxy or a private deployment can stand here; proxies of the environment (`HTTPS_PROXY`) are not used.",
            pattern="^https?://",
        ),
    ] = "https://qyapi.weixin.qq.com"
    socket_base: Annotated[str, Meta(description="The address of the bots' long connection.", pattern="^wss?://")] = (
        "wss://openws.work.weixin.qq.com"
    )
    connect_seconds: Annotated[float, Meta(description="Seconds for connecting to the HTTP interface.", gt=0)] = 3.0
    request_seconds: Annotated[float, Meta(description="Seconds for one request to the HTTP interface.", gt=0)] = 10.0
    max_connections: Annotated[int, Meta(description="Requests to the HTTP interface at a time.", ge=1)] = 64
    member_messages_per_minute: Annotated[
        int,
        Meta(
            description="Messages an application sends to one person in a minute; WeCom drops what is beyond 30 without a word. 0: no limit.",
            ge=0,
        ),
    ] = 30
    member_messages_per_hour: Annotated[
        int,
        Meta(description="The same for an hour; WeCom drops what is beyond 1000. 0: no limit.", ge=0),
    ] = 1000
    duplicate_check_seconds: Annotated[
        int,
        Meta(
            description="Seconds for which WeCom suppresses an equal message: the time in which a crash is recovered from.",
            ge=60,
            le=14400,
        ),
    ] = 600


class DeliverySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How answers are fetched from the service and handed to WeCom."""

    instance: Annotated[
        str, Meta(description="The name of this instance in logs. Empty: host name and process number.", max_length=64)
    ] = ""
    max_open: Annotated[int, Meta(description="Deliveries under way at a time, for each account.", ge=1, le=1000)] = (
        1000
    )
    reconnect_seconds: Annotated[
        float, Meta(description="The longest pause before attaching to the service again, in seconds.", gt=0)
    ] = 5.0
    retry_seconds: Annotated[
        float, Meta(description="The longest wait before a failed delivery is offered again, in seconds.", gt=0)
    ] = 1800.0


class MediaSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pictures, recordings and files: of messages, which are fetched, and of replies, which are uploaded."""

    max_bytes: Annotated[
        int,
        Meta(
            description="Bytes of all attachments of one message; the person is told of what is more.",
            ge=1,
            le=20 * 1024 * 1024,
        ),
    ] = 20 * 1024 * 1024
    fetch_seconds: Annotated[
        float, Meta(description="Seconds for fetching the attachments of one message of a bot.", gt=0, le=240)
    ] = 30.0
    callback_seconds: Annotated[
        float,
        Meta(
            description="The same where WeCom waits for an acknowledgement: it repeats a callback for some fifteen seconds, and what is not there by then is told as missing.",
            gt=0,
            le=9,
        ),
    ] = 8.0
    memory_bytes: Annotated[
        int,
        Meta(
            description="Bytes of attachments in memory at a time, of all accounts; further ones wait. While one is handed to the service it takes up to four times as much.",
            ge=20 * 1024 * 1024,
        ),
    ] = 96 * 1024 * 1024
    max_fetches: Annotated[int, Meta(description="Fetches under way at a time, of all accounts.", ge=1)] = 16
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="The only hosts, or domains of hosts, that files of bots and of replies are fetched from. Empty: all public ones."
        ),
    ] = ()
    private_networks: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks such as `10.1.0.0/16` that files are fetched from although they are not public: for a private deployment, or a simulator."
        ),
    ] = ()
    file_above_bytes: Annotated[
        int,
        Meta(
            description="Bytes above which a table or a block of code of a reply is sent as a file where the door cannot show it. 0: never.",
            ge=0,
        ),
    ] = 4096
    insecure_http: Annotated[
        bool, Meta(description="Allows addresses without TLS for those files: for a simulator.")
    ] = False


class SecretsSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Secrets of accounts that are in files."""

    reread_seconds: Annotated[
        float,
        Meta(
            description="Seconds between two looks at the files of the accounts' secrets: what was put in the place of a secret is used without a restart.",
            ge=0.1,
            le=3600,
        ),
    ] = 5.0


class DirectorySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where members, departments and tags are looked up for `access`."""

    app: Annotated[
        str,
        Meta(
            description="The application, by account name, whose Secret reads the directory; it sees what its visible scope (可见范围) holds. Empty: each application reads for itself, and bots cannot have rules by department or tag."
        ),
    ] = ""
    fresh_seconds: Annotated[
        float, Meta(description="Seconds for which what was read is used without asking again.", gt=0)
    ] = 3600.0
    stale_seconds: Annotated[
        float,
        Meta(description="Seconds for which it is used when WeCom cannot be reached or refuses to be asked.", ge=0),
    ] = 86400.0
    unknown_seconds: Annotated[
        float, Meta(description="Seconds for which it is remembered that somebody is not in the directory.", gt=0)
    ] = 300.0
    request_seconds: Annotated[
        float,
        Meta(
            description="Seconds a message waits for one look into the directory; then what is remembered counts. A decision takes two looks at most, and WeCom waits for 5 seconds in all.",
            gt=0,
            le=2,
        ),
    ] = 1.0
    max_members: Annotated[
        int, Meta(description="Members that are remembered at a time; the longest unused go first.", ge=1)
    ] = 50_000


class SourcesSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where callbacks may come, beside being signed. Begin with `log`, and read what it says for some days."""

    mode: Annotated[
        Literal["off", "log", "enforce"],
        Meta(
            description="`log` counts and names callbacks from elsewhere; `enforce` also refuses them, with 403. `off` does not look."
        ),
    ] = "off"
    wecom: Annotated[
        bool, Meta(description="Whether the addresses that WeCom names (`getcallbackip`) are allowed.")
    ] = True
    app: Annotated[
        str, Meta(description="The application, by account name, that asks for them. Empty: the first one.")
    ] = ""
    file: Annotated[
        str,
        Meta(
            description="A file in which the last list of WeCom is kept, so that a restart has it at once. Empty: none; with `enforce`, callbacks then get 503 until the list was read."
        ),
    ] = ""
    allow: Annotated[
        tuple[str, ...],
        Meta(description="Addresses that are allowed on all doors: `10.1.2.3`, `101.226.103.*` or `10.0.0.0/8`."),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses of our own proxies, written as in `allow`. Only what these say about the sender is believed."
        ),
    ] = ()
    header: Annotated[
        Literal["x-forwarded-for", "forwarded"],
        Meta(description="Where those proxies say it. They must set or extend this header, and no other is read."),
    ] = "x-forwarded-for"
    refresh_seconds: Annotated[
        float, Meta(description="Seconds between two readings of WeCom's list, give or take a tenth.", ge=60)
    ] = 86400.0
    retry_seconds: Annotated[
        float, Meta(description="Seconds until it is tried again after a failure; the last list stays in use.", ge=1)
    ] = 3600.0


class AccessRule(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some people, and the assistant that they get. The first rule that somebody is in counts."""

    members: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^\S+$")], ...], Meta(description="UserIDs; case does not count.")
    ] = ()
    departments: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...], Meta(description="Ids of departments, everything below them included.")
    ] = ()
    tags: Annotated[
        tuple[Annotated[int, Meta(ge=1)], ...],
        Meta(description="Ids of tags; a department that has the tag counts with all below it."),
    ] = ()
    everyone: Annotated[bool, Meta(description="Everybody; for the last rule.")] = False
    assistant: Annotated[
        str,
        Meta(
            description="The assistant that answers these people. Empty: the account's.",
            pattern="^[a-zA-Z0-9._~-]{0,64}$",
        ),
    ] = ""


class AppSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A self-built application. Its callback address ends in `/wecom/app/NAME`."""

    corp_id: Annotated[str, Meta(description="The company's CorpID.", pattern=r"^\S+$")]
    agent_id: Annotated[int, Meta(description="The application's AgentId.", ge=0)]
    secret: Annotated[Secret, Meta(description="The application's Secret, as `env:NAME` or `file:PATH`.")]
    token: Annotated[Secret, Meta(description="The Token of its callback, as `env:NAME` or `file:PATH`.")]
    encoding_aes_key: Annotated[
        Secret,
        Meta(description="The EncodingAESKey of its callback: 43 letters and digits, as `env:NAME` or `file:PATH`."),
    ]
    next_token: Annotated[
        Secret,
        Meta(
            description="The Token that is about to be saved in the console, valid beside the present one. Empty: none."
        ),
    ] = field(default_factory=lambda: Secret(""))
    next_encoding_aes_key: Annotated[Secret, Meta(description="The same for the EncodingAESKey. Empty: none.")] = field(
        default_factory=lambda: Secret("")
    )
    assistant: Annotated[str, Meta(description="The assistant that answers.", pattern="^[a-zA-Z0-9._~-]{1,64}$")] = (
        "default"
    )
    reply_type: Annotated[
        Literal["text", "markdown"],
        Meta(description="`text` is shown everywhere; `markdown` is not shown in the personal WeChat."),
    ] = "text"
    cards: Annotated[
        bool,
        Meta(
            description="Whether cards are sent, such as the buttons of short replies. `false` says them in words, for people in the personal WeChat, which shows no cards."
        ),
    ] = True
    menu: Annotated[
        dict[str, Annotated[str, Meta(min_length=1, max_length=2000)]],
        Meta(
            description="What a person says by touching an entry of the application's menu, by its key. A key that reads like a sentence needs no entry here; others are passed over."
        ),
    ] = field(default_factory=dict)
    customer_service: Annotated[
        str,
        Meta(
            description="The account of `[kf]` that hears of its customers through this application's callback address, where WeCom sends their events there. Empty: none."
        ),
    ] = ""
    access: Annotated[
        tuple[AccessRule, ...], Meta(description="Who may use it, rule after rule. None: everybody.")
    ] = ()
    refusal: Annotated[
        str, Meta(description="What somebody is told who is in none of these rules.", min_length=1, max_length=500)
    ] = REFUSAL


class BotSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An intelligent bot over the long connection."""

    bot_id: Annotated[str, Meta(description="The bot's BotID.", min_length=1)]
    secret: Annotated[Secret, Meta(description="The Secret of its long connection, as `env:NAME` or `file:PATH`.")]
    name: Annotated[
        str, Meta(description="The bot's name in group chats, without `@`, so that a mention can be taken off.")
    ] = ""
    assistant: Annotated[str, Meta(description="The assistant that answers.", pattern="^[a-zA-Z0-9._~-]{1,64}$")] = (
        "default"
    )
    access: Annotated[
        tuple[AccessRule, ...], Meta(description="Who may use it, rule after rule. None: everybody.")
    ] = ()
    refusal: Annotated[
        str, Meta(description="What somebody is told who is in none of these rules.", min_length=1, max_length=500)
    ] = REFUSAL
    refresh_seconds: Annotated[
        float, Meta(description="Seconds between two refreshes of a growing answer.", ge=0.05, le=10)
    ] = 0.5
    thinking_seconds: Annotated[
        float, Meta(description="Seconds without any text after which a person is told that we are thinking.", ge=0)
    ] = 1.5
    stream_seconds: Annotated[
        float,
        Meta(description="Seconds a growing bubble is written to; WeCom closes it after six minutes.", gt=0, le=590),
    ] = 330.0
    conversation_messages_per_minute: Annotated[
        int,
        Meta(
            description="Messages the bot sends to one person or group in a minute, the first and the last frame of a growing answer each counted; WeCom refuses what is beyond 30. 0: no limit.",
            ge=0,
        ),
    ] = 30
    conversation_messages_per_hour: Annotated[
        int, Meta(description="The same for an hour; WeCom refuses what is beyond 1000. 0: no limit.", ge=0)
    ] = 1000
    subscribe_seconds: Annotated[float, Meta(description="Seconds to wait for a subscription.", gt=0)] = 10.0
    heartbeat_seconds: Annotated[float, Meta(description="Seconds between two heartbeats.", gt=0, le=60)] = 30.0
    ack_seconds: Annotated[
        float, Meta(description="Seconds in which WeCom is expected to acknowledge a frame.", gt=0)
    ] = 5.0
    kicked_pause_seconds: Annotated[
        float, Meta(description="Seconds before trying again after another connection took the bot over.", gt=0)
    ] = 60.0
    max_waiting: Annotated[
        int, Meta(description="Messages that may wait in memory while the service cannot be reached.", ge=1)
    ] = 1000
    submit_window_seconds: Annotated[
        float,
        Meta(description="Seconds for which a message is offered to the service before the person is told.", gt=0),
    ] = 600.0


class CallbackBotSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An intelligent bot in callback mode. Its callback address ends in `/wecom/bot/NAME`."""

    bot_id: Annotated[
        str, Meta(description="The bot's BotID; callbacks of another bot are refused. Empty: not looked at.")
    ] = ""
    token: Annotated[Secret, Meta(description="The Token of its callback, as `env:NAME` or `file:PATH`.")]
    encoding_aes_key: Annotated[
        Secret,
        Meta(description="The EncodingAESKey of its callback: 43 letters and digits, as `env:NAME` or `file:PATH`."),
    ]
    next_token: Annotated[
        Secret,
        Meta(
            description="The Token that is about to be saved in the console, valid beside the present one. Empty: none."
        ),
    ] = field(default_factory=lambda: Secret(""))
    next_encoding_aes_key: Annotated[Secret, Meta(description="The same for the EncodingAESKey. Empty: none.")] = field(
        default_factory=lambda: Secret("")
    )
    name: Annotated[
        str, Meta(description="The bot's name in group chats, without `@`, so that a mention can be taken off.")
    ] = ""
    assistant: Annotated[str, Meta(description="The assistant that answers.", pattern="^[a-zA-Z0-9._~-]{1,64}$")] = (
        "default"
    )
    access: Annotated[
        tuple[AccessRule, ...], Meta(description="Who may use it, rule after rule. None: everybody.")
    ] = ()
    refusal: Annotated[
        str, Meta(description="What somebody is told who is in none of these rules.", min_length=1, max_length=500)
    ] = REFUSAL
    close_seconds: Annotated[
        float,
        Meta(
            description="Seconds after a message when its growing bubble is ended; an answer that is complete only later comes as a message of its own.",
            gt=0,
            le=355,
        ),
    ] = 330.0
    window_seconds: Annotated[
        float,
        Meta(
            description="Seconds after a message for which WeCom asks for its bubble: six minutes. An answer nobody has asked for by then comes as a message.",
            gt=0,
            le=600,
        ),
    ] = 360.0
    grace_seconds: Annotated[
        float,
        Meta(
            description="Seconds at the end of that window in which no bubble is finished any more, and that are waited behind it: more than the clocks of the machines differ, and than a restart takes.",
            gt=0,
            le=60,
        ),
    ] = 10.0


class RobotSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A robot of a group chat (群机器人), through which programs push messages. It hears nothing."""

    key: Annotated[Secret, Meta(description="The key at the end of its webhook address, as `env:NAME` or `file:PATH`.")]
    markdown: Annotated[
        Literal["auto", "v1", "v2", "text"],
        Meta(
            description="What texts are sent as. `v1` is for mentions and colours, `v2` for tables, lists and pictures, `text` is shown everywhere; `auto` looks at each text."
        ),
    ] = "auto"
    messages_per_minute: Annotated[
        int,
        Meta(
            description="Messages that are sent in a minute; further ones wait. WeCom refuses what is beyond 20.", ge=1
        ),
    ] = 20


class KfSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Customer service (微信客服) of one application. Its callback address ends in `/wecom/kf/NAME`."""

    corp_id: Annotated[str, Meta(description="The company's CorpID.", pattern=r"^\S+$")]
    secret: Annotated[
        Secret,
        Meta(
            description="The Secret of the application that may call customer service (可调用接口的应用), as `env:NAME` or `file:PATH`."
        ),
    ]
    token: Annotated[Secret, Meta(description="The Token of its callback, as `env:NAME` or `file:PATH`.")]
    encoding_aes_key: Annotated[
        Secret,
        Meta(description="The EncodingAESKey of its callback: 43 letters and digits, as `env:NAME` or `file:PATH`."),
    ]
    next_token: Annotated[
        Secret,
        Meta(
            description="The Token that is about to be saved in the console, valid beside the present one. Empty: none."
        ),
    ] = field(default_factory=lambda: Secret(""))
    next_encoding_aes_key: Annotated[Secret, Meta(description="The same for the EncodingAESKey. Empty: none.")] = field(
        default_factory=lambda: Secret("")
    )
    assistant: Annotated[str, Meta(description="The assistant that answers.", pattern="^[a-zA-Z0-9._~-]{1,64}$")] = (
        "default"
    )
    assistants: Annotated[
        dict[str, Annotated[str, Meta(pattern="^[a-zA-Z0-9._~-]{1,64}$")]],
        Meta(description="The assistants of single accounts of customer service, by their `open_kfid` (`wk…`)."),
    ] = field(default_factory=dict)
    welcome: Annotated[
        bool, Meta(description="Whether customers who come in are told the assistant's greeting, as WeCom allows it.")
    ] = True
    hand_off: Annotated[
        bool, Meta(description="Whether a customer who asks for a person is given to one of the company.")
    ] = True
    servicer: Annotated[
        str,
        Meta(
            description="The UserID of the person (接待人员) that customers are given to. Empty: the waiting pool, from which persons take them.",
            max_length=64,
        ),
    ] = ""
    poll_seconds: Annotated[
        float,
        Meta(
            description="Seconds between two looks for new messages without a callback, so that a lost callback loses nothing. WeCom limits them strictly.",
            ge=5,
            le=3600,
        ),
    ] = 60.0
    parallel: Annotated[
        int, Meta(description="Customers whose messages are handed to the service at a time.", ge=1, le=256)
    ] = 32
    max_waiting: Annotated[
        int,
        Meta(
            description="Answers that wait in memory until their customer writes again, because WeCom takes no more before; others wait at the service.",
            ge=1,
        ),
    ] = 128
    state_file: Annotated[
        str,
        Meta(
            description="A file that keeps how far messages were read. Losing it is safe: reading then begins three days back, and what was answered is known. Empty: kept in memory."
        ),
    ] = ""


class Settings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the adapter."""

    server: ServerSettings = ServerSettings()
    listen: ListenSettings = ListenSettings()
    operations: OperationsSettings = OperationsSettings()
    log: LogSettings = LogSettings()
    privacy: PrivacySettings = PrivacySettings()
    wecom: WeComSettings = WeComSettings()
    delivery: DeliverySettings = DeliverySettings()
    media: MediaSettings = MediaSettings()
    secrets: SecretsSettings = SecretsSettings()
    directory: DirectorySettings = DirectorySettings()
    sources: SourcesSettings = SourcesSettings()
    apps: Annotated[
        dict[str, AppSettings],
        Meta(description="Self-built applications by account name."),
    ] = field(default_factory=dict)
    bots: Annotated[
        dict[str, BotSettings],
        Meta(description="Intelligent bots by account name."),
    ] = field(default_factory=dict)
    kf: Annotated[
        dict[str, KfSettings],
        Meta(description="Applications that serve customers (微信客服), by account name."),
    ] = field(default_factory=dict)
    callback_bots: Annotated[
        dict[str, CallbackBotSettings],
        Meta(description="Intelligent bots in callback mode by account name."),
    ] = field(default_factory=dict)
    robots: Annotated[
        dict[str, RobotSettings],
        Meta(description="Robots of group chats by account name."),
    ] = field(default_factory=dict)


def check(settings: Settings) -> None:
    """Checks the rules over several fields.

    Raises:
        SettingsError: for the first one that is broken.
    """
    if next(accounts(settings), None) is None:
        raise SettingsError(
            "apps", "nothing to do without an account; add [apps.NAME], [bots.NAME] or one of another kind"
        )
    _check_base("wecom.api_base", settings.wecom.api_base)
    _check_base("wecom.socket_base", settings.wecom.socket_base)
    _check_accounts(settings)
    _check_sources(settings)
    _check_media(settings.media)
    known: dict[tuple[str, int], str] = {}
    for name, app in settings.apps.items():
        for key in ("secret", "token", "encoding_aes_key"):
            _given(getattr(app, key), f"apps.{name}.{key}")
        if (twin := known.setdefault((app.corp_id, app.agent_id), name)) != name:
            raise SettingsError(f"apps.{name}.agent_id", f"is also that of apps.{twin}; an application is one account")
        if app.customer_service and app.customer_service not in settings.kf:
            raise SettingsError(
                f"apps.{name}.customer_service",
                f"names {app.customer_service}, which is not there; add [kf.{app.customer_service}]",
            )
    for name, bot in settings.bots.items():
        _given(bot.secret, f"bots.{name}.secret")
    for name, called in settings.callback_bots.items():
        for key in ("token", "encoding_aes_key"):
            _given(getattr(called, key), f"callback_bots.{name}.{key}")
        if called.close_seconds > called.window_seconds - called.grace_seconds:
            raise SettingsError(
                f"callback_bots.{name}.close_seconds",
                "must not be above window_seconds less grace_seconds, in which no bubble is finished any more",
            )
    for name, robot in settings.robots.items():
        _given(robot.key, f"robots.{name}.key")
        if rule := broken_rule("key", robot.key.reveal()):
            raise SettingsError(f"robots.{name}.key", rule)
    for name, desk in settings.kf.items():
        for key in ("secret", "token", "encoding_aes_key"):
            _given(getattr(desk, key), f"kf.{name}.{key}")
        if desk.state_file and any(
            other.state_file == desk.state_file for twin, other in settings.kf.items() if twin < name
        ):
            raise SettingsError(f"kf.{name}.state_file", "is also the file of another one; give each its own")
    if bool(settings.server.certificate_file) != bool(settings.server.key_file):
        raise SettingsError("server.key_file", "belongs to certificate_file; give both or none")
    if settings.server.certificate_file and not settings.server.ca_file:
        raise SettingsError("server.ca_file", "is required for TLS; set it")


def _check_base(field: str, address: str) -> None:
    try:
        parts = urlsplit(address)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None:
        raise SettingsError(
            field, "must be an address such as https://host:port, without a user, a query or a fragment"
        )
    if parts.path.rstrip("/").endswith("/cgi-bin"):
        raise SettingsError(field, "must end before /cgi-bin, which is added; remove it")


def _given(secret: Secret, field: str) -> None:
    if not secret:
        raise SettingsError(field, "is empty; give it as env:NAME or file:PATH")


def accounts(settings: Settings) -> Iterator[tuple[str, str, msgspec.Struct]]:
    """Every account of every kind: the kind as in the file, the name, and its settings."""
    for kind in settings.__struct_fields__:
        table = getattr(settings, kind)
        if isinstance(table, Mapping):
            for name, account in table.items():
                yield kind, name, account


def assistants(account: msgspec.Struct) -> Iterator[str]:
    """Every assistant that people of an account may get."""
    own: str = getattr(account, "assistant", "")
    others: dict[str, str] = getattr(account, "assistants", {})
    named = (own, *(rule.assistant for rule in rules_of(account)), *others.values())
    yield from dict.fromkeys(name for name in named if name)


def rules_of(account: msgspec.Struct) -> "tuple[AccessRule, ...]":
    """The rules of access of an account; none where its kind has none."""
    rules: tuple[AccessRule, ...] = getattr(account, "access", ())
    return rules


def _check_accounts(settings: Settings) -> None:
    kind_of: dict[str, str] = {}
    for kind, name, account in accounts(settings):
        if not _ACCOUNT.fullmatch(name):
            raise SettingsError(f"{kind}.{name}", "the name of an account is 1 to 64 of a-z A-Z 0-9 . _ -")
        if (other := kind_of.setdefault(name, kind)) != kind:
            # The name is all by which the service, the measures and the log tell accounts apart.
            raise SettingsError(f"{kind}.{name}", f"is also the name of {other}.{name}; rename one of the two")
        rules = rules_of(account)
        for number, rule in enumerate(rules):
            _check_rule(settings, kind, f"{kind}.{name}.access[{number}]", rule, last=number + 1 == len(rules))
    if settings.directory.app and settings.directory.app not in settings.apps:
        raise SettingsError("directory.app", f"names {settings.directory.app}, which is not among the apps")


def _check_rule(settings: Settings, kind: str, path: str, rule: AccessRule, *, last: bool) -> None:
    if not (rule.members or rule.departments or rule.tags or rule.everyone):
        raise SettingsError(path, "is about nobody; give members, departments, tags, or everyone = true")
    if rule.everyone and not last:
        raise SettingsError(f"{path}.everyone", "leaves nobody for the rules after it; make this the last one")
    if (rule.departments or rule.tags) and not settings.directory.app and kind != "apps":
        field = "departments" if rule.departments else "tags"
        raise SettingsError(f"{path}.{field}", "needs an application that reads the directory; set directory.app")


def _check_sources(settings: Settings) -> None:
    sources = settings.sources
    for key in ("allow", "trusted_proxies"):
        for number, text in enumerate(getattr(sources, key)):
            try:
                network(text)
            except ValueError as error:
                raise SettingsError(f"sources.{key}[{number}]", str(error)) from None
    if sources.mode == "off":
        return
    if sources.wecom and (sources.app or not settings.apps) and sources.app not in settings.apps:
        raise SettingsError(
            "sources.app", "must name one of the apps, which asks WeCom for its addresses; or set sources.wecom = false"
        )
    if not sources.wecom and not sources.allow:
        raise SettingsError(
            "sources.allow", "is empty, so nobody could call; add addresses, or set sources.wecom = true"
        )


def _check_media(media: MediaSettings) -> None:
    for number, text in enumerate(media.private_networks):
        try:
            ip_network(text)
        except ValueError:
            raise SettingsError(
                f"media.private_networks[{number}]", "must be a network, such as 10.1.0.0/16; its host bits must be 0"
            ) from None
    if media.insecure_http and not media.private_networks:
        raise SettingsError(
            "media.insecure_http", "is for networks of our own; name them in media.private_networks, or set it to false"
        )
