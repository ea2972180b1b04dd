"""Every setting of the simulator: the corporation it plays, its rules, and its accidents.

The file is TOML; the environment overrides it as ``WECONVERSE_SIMULATOR__SECTION__KEY``.
The defaults are a whole corporation, so that an empty file is a working one. Its secrets
are not secret: they open nothing but this simulator.
"""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, field

from adapter.crypto import Envelope
from program.secret import Secret
from simulator.faults import FAULTS, Switch
from simulator.rules import Rules

_MENU_ENTRIES: Final = 3
"""At the top of an application's menu (DOC 90231)."""

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings file."""


class TlsSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate for clients that insist on TLS. Both empty: none."""

    certificate_file: Annotated[str, Meta(description="PEM file of the certificate chain.")] = ""
    key_file: Annotated[str, Meta(description="PEM file of its private key.")] = ""


class ListenSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The one port for the chat page, REST and the long connection."""

    address: Annotated[str, Meta(description="Where to listen, as `host:port`. Port 0 takes a free one.")] = (
        "127.0.0.1:8070"
    )
    insecure_listen: Annotated[
        bool, Meta(description="Allows an address beyond loopback. Whoever reaches the page writes as anybody.")
    ] = False
    tls: TlsSettings = TlsSettings()


class LogSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log lines. They never hold the text of a message."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The lowest level that is written.")
    ] = "info"
    format: Annotated[Literal["json", "text"], Meta(description="`text` is for reading at a terminal.")] = "json"


class AppSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A self-built application."""

    agent_id: Annotated[int, Meta(description="Its AgentId.", ge=1)] = 1000002
    name: Annotated[str, Meta(description="Its name in the list of chats.", min_length=1)] = "企业服务助手"
    secret: Annotated[Secret, Meta(description="Its Secret, for gettoken.")] = field(
        default_factory=lambda: Secret("simulator-app-secret-0123456789abcdefghijkl")
    )
    token: Annotated[Secret, Meta(description="The Token of its callback, 1 to 32 letters and digits.")] = field(
        default_factory=lambda: Secret("SimulatorCallbackToken")
    )
    encoding_aes_key: Annotated[Secret, Meta(description="The EncodingAESKey of its callback, 43 characters.")] = field(
        default_factory=lambda: Secret("SimulatorEncodingAESKey0123456789ABCDEFGHIJ")
    )
    callback_url: Annotated[str, Meta(description="Where callbacks go. Empty: nowhere.")] = ""
    report_enter: Annotated[
        bool, Meta(description="Whether a member's entering the application is reported (`enter_agent`).")
    ] = False
    menu: Annotated[
        dict[str, str], Meta(description="Entries of its menu: the name that people see, and the key of the event.")
    ] = field(default_factory=dict)
    scan_menu: Annotated[
        dict[str, str], Meta(description="The same for entries that scan a code and wait for an answer (扫码带提示).")
    ] = field(default_factory=dict)
    visible_departments: Annotated[
        tuple[int, ...],
        Meta(description="Departments that it sees in the address book, with all below them. Empty: all."),
    ] = ()


class BotSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An intelligent bot."""

    id: Annotated[str, Meta(description="Its BotID.", min_length=1)] = "aibSimulatorBot0001"
    name: Annotated[str, Meta(description="Its name, which people mention in groups.", min_length=1)] = "小助手"
    mode: Annotated[
        Literal["socket", "callback"],
        Meta(description="Whether it has a long connection, or is called at an address and asked for its streams."),
    ] = "socket"
    secret: Annotated[Secret, Meta(description="Its Secret for the long connection.")] = field(
        default_factory=lambda: Secret("simulator-bot-secret-0123456789abcdefghijkl")
    )
    token: Annotated[Secret, Meta(description="The Token of its callback, 1 to 32 letters and digits.")] = field(
        default_factory=lambda: Secret("SimulatorBotToken")
    )
    encoding_aes_key: Annotated[
        Secret, Meta(description="The EncodingAESKey of its callback, and of its files in that mode: 43 characters.")
    ] = field(default_factory=lambda: Secret("SimulatorBotAESKey0123456789ABCDEFGHIJKLMNO"))
    callback_url: Annotated[str, Meta(description="Where callbacks go. Empty: nowhere.")] = ""


class PersonSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member of the corporation."""

    id: Annotated[str, Meta(description="The UserID.", min_length=1, max_length=64)]
    name: Annotated[str, Meta(description="The name shown.", min_length=1)]
    title: Annotated[str, Meta(description="What stands below the name.")] = ""
    departments: Annotated[
        tuple[int, ...],
        Meta(description="Ids of the departments that the member is in. Empty: the corporation itself."),
    ] = ()


class DepartmentSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A department of the address book."""

    id: Annotated[int, Meta(description="Its id; 1 is the corporation itself.", ge=1)]
    name: Annotated[str, Meta(description="Its name.", min_length=1)]
    parent: Annotated[int, Meta(description="The department above it; 0 above the corporation itself.", ge=0)] = 1


class TagSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tag of the address book."""

    id: Annotated[int, Meta(description="Its id.", ge=1)]
    name: Annotated[str, Meta(description="Its name.", min_length=1)]
    members: Annotated[tuple[str, ...], Meta(description="UserIDs that have it.")] = ()
    departments: Annotated[tuple[int, ...], Meta(description="Departments that have it.")] = ()


class GroupSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group chat with the bot in it."""

    id: Annotated[str, Meta(description="The chatid.", min_length=1, max_length=64)]
    name: Annotated[str, Meta(description="The name shown.", min_length=1)]
    members: Annotated[tuple[str, ...], Meta(description="UserIDs of its members. Empty: everybody.")] = ()
    bot: Annotated[str, Meta(description="BotID of the bot in it. Empty: the first one.")] = ""


class DeskSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account of customer service."""

    open_kfid: Annotated[str, Meta(description="Its open_kfid.", min_length=1, max_length=64)]
    name: Annotated[str, Meta(description="The name shown.", min_length=1)]


class CustomerSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody outside of the corporation, in the personal WeChat."""

    id: Annotated[str, Meta(description="The external_userid.", min_length=1, max_length=64)]
    name: Annotated[str, Meta(description="The name shown.", min_length=1)]


class KfSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Customer service (微信客服), and the application that may call it."""

    agent_id: Annotated[int, Meta(description="The AgentId of that application; it has no chat.", ge=1)] = 1000009
    secret: Annotated[Secret, Meta(description="Its Secret, for gettoken.")] = field(
        default_factory=lambda: Secret("simulator-kf-secret-0123456789abcdefghijkl")
    )
    token: Annotated[Secret, Meta(description="The Token of its callback, 1 to 32 letters and digits.")] = field(
        default_factory=lambda: Secret("SimulatorKfToken")
    )
    encoding_aes_key: Annotated[Secret, Meta(description="The EncodingAESKey of its callback, 43 characters.")] = field(
        default_factory=lambda: Secret("SimulatorEncodingAESKey0123456789ABCDEFGHIK")
    )
    callback_url: Annotated[str, Meta(description="Where callbacks go. Empty: nowhere.")] = ""
    accounts: Annotated[tuple[DeskSettings, ...], Meta(description="The accounts that it serves.")] = (
        DeskSettings(open_kfid="wkSimulatorDesk0001", name="在线客服"),
    )
    servicers: Annotated[
        tuple[str, ...], Meta(description="UserIDs of the persons who can take customers over. Empty: everybody.")
    ] = ()


class RobotSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A robot of a group chat, with a webhook."""

    name: Annotated[str, Meta(description="The name shown.", min_length=1)] = "群机器人"
    key: Annotated[Secret, Meta(description="The key at the end of its webhook address.")] = field(
        default_factory=lambda: Secret("simulator-robot-key-0001")
    )
    group: Annotated[str, Meta(description="The chatid of its group. Empty: the first one.")] = ""


class FaultSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong from the start; the page changes it later."""

    seed: Annotated[int, Meta(description="Seed of the draws.")] = 0
    switches: Annotated[dict[str, Switch], Meta(description="Switches by the name of the fault.")] = {}


class BoundSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is remembered. The oldest goes first."""

    bubbles: Annotated[int, Meta(description="Bubbles of one chat.", ge=10)] = 500
    journal: Annotated[int, Meta(description="Entries of the journal.", ge=100)] = 50_000
    messages: Annotated[
        int, Meta(description="Messages of the past that can still be answered or recalled.", ge=100)
    ] = 20_000
    media_bytes: Annotated[int, Meta(description="Bytes of all files in the store.", ge=1)] = 256 * 1024 * 1024
    backlog: Annotated[int, Meta(description="Callbacks under way or waiting; more cannot be written.", ge=1)] = 5_000


_PEOPLE: Final = (
    PersonSettings(id="zhangwei", name="张伟", title="产品部", departments=(2,)),
    PersonSettings(id="lina", name="李娜", title="市场部", departments=(3,)),
    PersonSettings(id="wangfang", name="王芳", title="人力资源部", departments=(4,)),
    PersonSettings(id="chenjie", name="陈杰", title="研发部", departments=(5,)),
)


_CUSTOMERS: Final = (
    CustomerSettings(id="wmSimulatorCustomer01", name="顾客小林"),
    CustomerSettings(id="wmSimulatorCustomer02", name="顾客小周"),
)


_DEPARTMENTS: Final = (
    DepartmentSettings(id=1, name="公司", parent=0),
    DepartmentSettings(id=2, name="产品部"),
    DepartmentSettings(id=3, name="市场部"),
    DepartmentSettings(id=4, name="人力资源部"),
    DepartmentSettings(id=5, name="研发部"),
)


class Settings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The simulator."""

    listen: ListenSettings = ListenSettings()
    log: LogSettings = LogSettings()
    corp_id: Annotated[str, Meta(description="The CorpID.", min_length=1)] = "ww0123456789simula"
    apps: Annotated[tuple[AppSettings, ...], Meta(description="Self-built applications.")] = field(
        default_factory=lambda: (AppSettings(),)
    )
    bots: Annotated[tuple[BotSettings, ...], Meta(description="Intelligent bots.")] = field(
        default_factory=lambda: (BotSettings(),)
    )
    people: Annotated[tuple[PersonSettings, ...], Meta(description="Members.", min_length=1)] = _PEOPLE
    departments: Annotated[tuple[DepartmentSettings, ...], Meta(description="The tree of departments.")] = _DEPARTMENTS
    tags: Annotated[tuple[TagSettings, ...], Meta(description="Tags.")] = ()
    callback_addresses: Annotated[
        tuple[str, ...], Meta(description="What `getcallbackip` says: addresses, patterns and CIDR.")
    ] = ("127.0.0.1", "127.0.0.*")
    groups: Annotated[tuple[GroupSettings, ...], Meta(description="Group chats.")] = (
        GroupSettings(id="wrSimulatorGroup01", name="项目讨论组"),
    )
    kf: KfSettings = field(default_factory=KfSettings)
    customers: Annotated[tuple[CustomerSettings, ...], Meta(description="Customers of customer service.")] = _CUSTOMERS
    robots: Annotated[tuple[RobotSettings, ...], Meta(description="Robots of group chats.")] = field(
        default_factory=lambda: (RobotSettings(),)
    )
    rules: Rules = Rules()
    faults: FaultSettings = FaultSettings()
    bounds: BoundSettings = BoundSettings()


def host_and_port(address: str) -> tuple[str, int]:
    """Splits ``host:port``. Raises ``ValueError`` for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("must be host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def problems(settings: Settings) -> Iterator[tuple[str, str]]:
    """What types cannot say: pairs of a field and what is wrong with it."""
    yield from _listen_problems(settings.listen)
    yield from _twice("apps.agent_id", [str(app.agent_id) for app in settings.apps])
    yield from _twice("bots.id", [bot.id for bot in settings.bots])
    # WeCom hands UserIDs back in lower case, so two that differ by case only cannot be told apart.
    yield from _twice("people.id", [person.id.lower() for person in settings.people])
    yield from _twice("groups.id", [group.id for group in settings.groups])
    for number, app in enumerate(settings.apps):
        if len(app.menu) + len(app.scan_menu) > _MENU_ENTRIES:
            yield f"apps[{number}].menu", f"has more than {_MENU_ENTRIES} entries with those of scan_menu; shorten it"
        try:
            Envelope(app.token.reveal(), app.encoding_aes_key.reveal(), settings.corp_id)
        except ValueError as error:
            yield f"apps[{number}].{str(error).partition(':')[0]}", str(error).partition(": ")[2]
        if app.callback_url and not app.callback_url.startswith(("http://", "https://")):
            yield f"apps[{number}].callback_url", "must begin with http:// or https://"
    for number, bot in enumerate(settings.bots):
        try:
            Envelope(bot.token.reveal(), bot.encoding_aes_key.reveal(), "")
        except ValueError as error:
            yield f"bots[{number}].{str(error).partition(':')[0]}", str(error).partition(": ")[2]
        if bot.callback_url and not bot.callback_url.startswith(("http://", "https://")):
            yield f"bots[{number}].callback_url", "must begin with http:// or https://"
    people = {person.id for person in settings.people}
    bots = {bot.id for bot in settings.bots}
    for number, group in enumerate(settings.groups):
        if strangers := [member for member in group.members if member not in people]:
            yield f"groups[{number}].members", f"{strangers[0]!r} is not among the people"
        if group.bot and group.bot not in bots:
            yield f"groups[{number}].bot", f"{group.bot!r} is not among the bots"
    yield from _kf_problems(settings)
    yield from _directory_problems(settings)
    yield from _twice("robots.key", [robot.key.reveal() for robot in settings.robots])
    groups = {group.id for group in settings.groups}
    for number, robot in enumerate(settings.robots):
        if robot.group and robot.group not in groups:
            yield f"robots[{number}].group", f"{robot.group!r} is not among the groups"
    for name in settings.faults.switches:
        if name not in FAULTS:
            yield f"faults.switches.{name}", f"no such fault; there are {', '.join(FAULTS)}"


def _kf_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    kf = settings.kf
    yield from _twice("kf.accounts.open_kfid", [desk.open_kfid for desk in kf.accounts])
    yield from _twice("customers.id", [customer.id for customer in settings.customers])
    try:
        Envelope(kf.token.reveal(), kf.encoding_aes_key.reveal(), settings.corp_id)
    except ValueError as error:
        yield f"kf.{str(error).partition(':')[0]}", str(error).partition(": ")[2]
    if kf.callback_url and not kf.callback_url.startswith(("http://", "https://")):
        yield "kf.callback_url", "must begin with http:// or https://"
    if kf.agent_id in {app.agent_id for app in settings.apps}:
        yield "kf.agent_id", f"{kf.agent_id} is also an application with a chat; give it another one"
    people = {person.id for person in settings.people}
    if strangers := [servicer for servicer in kf.servicers if servicer not in people]:
        yield "kf.servicers", f"{strangers[0]!r} is not among the people"


def _directory_problems(settings: Settings) -> Iterator[tuple[str, str]]:
    yield from _twice("departments.id", [str(department.id) for department in settings.departments])
    yield from _twice("tags.id", [str(tag.id) for tag in settings.tags])
    departments = {department.id for department in settings.departments}
    people = {person.id for person in settings.people}
    named: dict[str, tuple[int, ...]] = {}
    named |= {f"departments[{number}].parent": (one.parent,) for number, one in enumerate(settings.departments)}
    named |= {f"people[{number}].departments": one.departments for number, one in enumerate(settings.people)}
    named |= {f"tags[{number}].departments": one.departments for number, one in enumerate(settings.tags)}
    named |= {
        f"apps[{number}].visible_departments": one.visible_departments for number, one in enumerate(settings.apps)
    }
    for field_name, ids in named.items():
        if strange := [one for one in ids if one and one not in departments]:
            yield field_name, f"{strange[0]} is not among the departments"
    for number, tag in enumerate(settings.tags):
        if strangers := [member for member in tag.members if member not in people]:
            yield f"tags[{number}].members", f"{strangers[0]!r} is not among the people"


def _listen_problems(listen: ListenSettings) -> Iterator[tuple[str, str]]:
    try:
        host, _ = host_and_port(listen.address)
    except ValueError as error:
        yield "listen.address", str(error)
        return
    if host not in LOOPBACK and not listen.insecure_listen:
        yield "listen.address", "is not loopback; set listen.insecure_listen = true if the network is closed"
    if bool(listen.tls.certificate_file) != bool(listen.tls.key_file):
        yield "listen.tls", "needs both files or neither"


def _twice(where: str, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield where, f"{name!r} occurs twice"
