"""WeCom's rules, as data: limits, windows, schedules and error codes, each with its source.

``DOC n`` is the public page ``developer.work.weixin.qq.com/document/path/n``. Where the
documents are silent or disagree, the description says so and the value is the reading
under which a careless client fails first. A developer changes a rule in the settings file
(``[rules]``), a test in the constructor; the chat page shows them all.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

_DOC_CALLBACK: Final = "DOC 90238"
_DOC_SEND: Final = "DOC 90236"
_DOC_ERRORS: Final = "DOC 90313"
_DOC_SOCKET: Final = "DOC 101463"
_DOC_ACCESS: Final = "DOC 91039"
_DOC_UPLOAD: Final = "DOC 90253"
_DOC_KF_SYNC: Final = "DOC 94670"
_DOC_KF_SEND: Final = "DOC 96427"
_DOC_KF_STATE: Final = "DOC 94669"
_OBSERVED: Final = "observed by third parties, not documented"
_CHOSEN: Final = "no number is documented; chosen here"


def _rule(description: str, source: str, **limits: Any) -> Meta:
    return Meta(description=description, extra={"source": source}, **limits)


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything the platform insists on. Bytes are UTF-8 bytes, durations are seconds."""

    # --- callbacks of a self-built application ---
    url_check_seconds: Annotated[
        float, _rule("How long the address check of a saved configuration waits.", _DOC_CALLBACK, gt=0)
    ] = 1.0
    callback_seconds: Annotated[
        float, _rule("How long one delivery of a callback waits for its answer.", _DOC_CALLBACK, gt=0)
    ] = 5.0
    callback_deliveries: Annotated[
        int, _rule("Deliveries of one callback in total, the first included.", _DOC_CALLBACK, ge=1)
    ] = 3
    callback_interval_seconds: Annotated[
        float,
        _rule("Least time between the beginnings of two deliveries of one callback.", _OBSERVED, ge=0),
    ] = 5.0
    passive_text_bytes: Annotated[int, _rule("Text of a passive reply; cut silently beyond.", "DOC 90241", ge=1)] = 2048

    # --- access token ---
    token_seconds: Annotated[int, _rule("Life of an access token.", _DOC_ACCESS, ge=1)] = 7200
    expired_token_code: Annotated[
        Literal[40014, 42001],
        _rule("What an expired token is refused with; both codes are seen in practice.", _DOC_ERRORS),
    ] = 42001
    wrong_secret_limit: Annotated[
        int,
        _rule(
            "Wrong secrets of one address within an hour before it is blocked.", f"{_DOC_ERRORS} 45009; {_CHOSEN}", ge=1
        ),
    ] = 20
    wrong_secret_block_seconds: Annotated[
        float, _rule("How long such an address stays blocked.", f"{_DOC_ERRORS} 45009", ge=0)
    ] = 3600.0
    token_calls_per_minute: Annotated[
        int, _rule("gettoken calls of one application in a minute.", f"{_DOC_ACCESS}; {_CHOSEN}", ge=1)
    ] = 100

    # --- message/send ---
    text_bytes: Annotated[int, _rule("Text of an application message; cut silently beyond.", _DOC_SEND, ge=1)] = 2048
    text_refused_bytes: Annotated[int, _rule("Text above this is refused as a whole with 40058.", _OBSERVED, ge=1)] = (
        5120
    )
    markdown_bytes: Annotated[int, _rule("Markdown of an application message.", _DOC_SEND, ge=1)] = 2048
    markdown_over_code: Annotated[
        Literal[40058, 45002], _rule("What longer Markdown is refused with.", _DOC_ERRORS)
    ] = 40058
    recipients: Annotated[int, _rule("People in one touser.", _DOC_SEND, ge=1)] = 1000
    duplicate_seconds: Annotated[
        int, _rule("duplicate_check_interval when the request names none.", _DOC_SEND, ge=1)
    ] = 1800
    duplicate_seconds_limit: Annotated[int, _rule("The largest duplicate_check_interval.", _DOC_SEND, ge=1)] = 14400
    duplicate_compares: Annotated[
        Literal["bytes", "value"],
        _rule(
            "Whether requests are the same when their bytes are, or when their JSON means the same. Documented is "
            "only that the whole JSON counts; bytes is the stricter reading.",
            _DOC_SEND,
        ),
    ] = "bytes"
    member_per_minute: Annotated[
        int, _rule("Messages of an application to one member in a minute; more are dropped silently.", _DOC_SEND, ge=1)
    ] = 30
    member_per_hour: Annotated[int, _rule("The same in an hour.", _DOC_SEND, ge=1)] = 1000
    recall_seconds: Annotated[float, _rule("How long a message can be recalled.", _DOC_SEND, ge=0)] = 86400.0
    response_code_seconds: Annotated[
        float, _rule("How long the response_code of a card can be used, once.", _DOC_SEND, gt=0)
    ] = 259200.0
    group_per_minute: Annotated[
        int, _rule("Messages of an application to one group in a minute; more are dropped silently.", "DOC 90454", ge=1)
    ] = 200

    # --- long connection of an intelligent bot ---
    subscribes_per_minute: Annotated[
        int, _rule("Subscribe frames of one bot in a minute.", f"{_DOC_SOCKET}; {_CHOSEN}", ge=1)
    ] = 60
    socket_silence_seconds: Annotated[
        float, _rule("A socket from which nothing comes for so long is dropped.", _OBSERVED, gt=0)
    ] = 90.0
    req_id_seconds: Annotated[
        float, _rule("How long the req_id of a message callback can be answered, across reconnects.", _DOC_SOCKET, gt=0)
    ] = 86400.0
    welcome_seconds: Annotated[float, _rule("How long the req_id of an event can be answered.", _DOC_SOCKET, gt=0)] = (
        5.0
    )
    stream_seconds: Annotated[
        float,
        _rule(
            "Life of a stream from its first unfinished frame; updates do not extend it. Six minutes in copies of the "
            "document up to 2026-04, ten minutes measured since 2026-08.",
            _DOC_SOCKET,
            gt=0,
        ),
    ] = 600.0
    stream_bytes: Annotated[int, _rule("Content of a stream frame; refused as a whole beyond.", "DOC 101031", ge=1)] = (
        20480
    )
    push_markdown_bytes: Annotated[int, _rule("Markdown of aibot_send_msg.", _DOC_SOCKET, ge=1)] = 20480
    conversation_per_minute: Annotated[
        int, _rule("Replies and pushes of a bot in one conversation in a minute.", _DOC_SOCKET, ge=1)
    ] = 30
    conversation_per_hour: Annotated[int, _rule("The same in an hour.", _DOC_SOCKET, ge=1)] = 1000
    refreshes_count: Annotated[
        bool,
        _rule("Whether each refresh of a stream counts against these two, or only its first frame.", _OBSERVED),
    ] = False
    card_events_flat: Annotated[
        bool,
        _rule(
            "Whether the fields of a card's event stand beside its eventtype, as some clients' types have them, or one "
            "level deeper, as documented.",
            "DOC 101027",
        ),
    ] = False
    streams_with_card: Annotated[
        bool,
        _rule(
            "Whether stream_with_template_card is taken over the long connection. One page lists it and notes that it "
            "is not supported; the official client sends it.",
            _DOC_SOCKET,
        ),
    ] = False
    write_after_finish: Annotated[
        Literal["ignore", "refuse"],
        _rule("What a frame for a finished stream meets: a silent acceptance, or 846608.", "not documented"),
    ] = "ignore"
    redelivers: Annotated[bool, _rule("Whether callbacks without a reply come again after a reconnect.", _OBSERVED)] = (
        True
    )
    redelivery_keeps_req_id: Annotated[
        bool, _rule("Whether they come under the req_id of the first time.", "not documented")
    ] = True
    open_messages: Annotated[
        int,
        _rule(
            "Messages of one person that one bot has open at a time; later ones wait. 0: no limit. "
            "Documented are three; what happens to the fourth is not.",
            "DOC 100719",
            ge=0,
        ),
    ] = 0
    response_url_seconds: Annotated[float, _rule("How long a response_url can be used, once.", "DOC 101138", gt=0)] = (
        3600.0
    )

    # --- callback mode of an intelligent bot ---
    bot_callback_deliveries: Annotated[
        int,
        _rule(
            "Deliveries of a message in total. Events come once; whether messages are repeated is not documented.",
            f"DOC 101033; {_CHOSEN}",
            ge=1,
        ),
    ] = 3
    stream_poll_interval_seconds: Annotated[
        float, _rule("Time between two questions for a stream.", f"DOC 101031; {_OBSERVED}", gt=0)
    ] = 1.0
    stream_poll_seconds: Annotated[
        float, _rule("How long a stream is asked for, counted from the person's message.", "DOC 101031", gt=0)
    ] = 360.0

    # --- robots of groups ---
    robot_per_minute: Annotated[int, _rule("Messages of one robot in a minute; 45009 beyond.", "DOC 91770", ge=1)] = 20
    robot_text_bytes: Annotated[int, _rule("Text of a robot; refused as a whole beyond.", "DOC 91770", ge=1)] = 2048
    robot_markdown_bytes: Annotated[
        int, _rule("Markdown of a robot, of either kind; refused as a whole beyond.", "DOC 91770", ge=1)
    ] = 4096
    robot_image_bytes: Annotated[int, _rule("A picture of a robot, before base64.", "DOC 91770", ge=1)] = (
        2 * 1024 * 1024
    )

    # --- media ---
    media_seconds: Annotated[float, _rule("Life of a media_id.", _DOC_UPLOAD, gt=0)] = 259200.0
    media_least_bytes: Annotated[int, _rule("A file must have more bytes than this.", _DOC_UPLOAD, ge=0)] = 5
    media_image_bytes: Annotated[int, _rule("An uploaded picture, JPG or PNG.", _DOC_UPLOAD, ge=1)] = 10 * 1024 * 1024
    media_voice_bytes: Annotated[int, _rule("An uploaded recording, AMR.", _DOC_UPLOAD, ge=1)] = 2 * 1024 * 1024
    media_voice_seconds: Annotated[float, _rule("Length of an uploaded recording.", _DOC_UPLOAD, gt=0)] = 60.0
    media_video_bytes: Annotated[int, _rule("An uploaded video, MP4.", _DOC_UPLOAD, ge=1)] = 10 * 1024 * 1024
    media_file_bytes: Annotated[int, _rule("Any other uploaded file.", _DOC_UPLOAD, ge=1)] = 20 * 1024 * 1024
    media_get_bytes: Annotated[
        int, _rule("What one answer of media/get has at most; larger files need Range.", "DOC 90254", ge=1)
    ] = 20 * 1024 * 1024
    media_gets_per_minute: Annotated[
        int,
        _rule("How often one file can be fetched in a minute before 45033.", f"{_DOC_ERRORS} 45033; {_CHOSEN}", ge=1),
    ] = 30
    media_url_seconds: Annotated[float, _rule("Life of the address of a bot's file.", "DOC 100719", gt=0)] = 300.0
    media_url_name: Annotated[
        Literal["both", "form"],
        _rule("How such an address names its file: form-encoded alone, or RFC 5987 beside it.", _OBSERVED),
    ] = "both"
    upload_chunk_bytes: Annotated[
        int, _rule("One piece of an upload over the long connection, before base64.", _DOC_SOCKET, ge=1)
    ] = 512 * 1024
    upload_chunks: Annotated[int, _rule("Pieces of such an upload.", _DOC_SOCKET, ge=1)] = 100
    upload_seconds: Annotated[float, _rule("How long such an upload may take.", _DOC_SOCKET, gt=0)] = 1800.0
    uploads_per_minute: Annotated[int, _rule("Uploads that a bot begins in a minute.", _DOC_SOCKET, ge=1)] = 30
    uploads_per_hour: Annotated[int, _rule("The same in an hour.", _DOC_SOCKET, ge=1)] = 1000

    # --- customer service ---
    kf_token_seconds: Annotated[float, _rule("Life of the token in a callback.", _DOC_KF_SYNC, gt=0)] = 600.0
    kf_pulls_without_token: Annotated[
        int,
        _rule(
            "sync_msg calls of one account in a minute without a token; documented is only that they are limited "
            "strictly.",
            f"{_DOC_KF_SYNC}; {_CHOSEN}",
            ge=1,
        ),
    ] = 20
    kf_page_items: Annotated[int, _rule("Items of one answer of sync_msg at most.", _DOC_KF_SYNC, ge=1)] = 1000
    kf_history_seconds: Annotated[
        float, _rule("How far back sync_msg begins without a cursor.", _DOC_KF_SYNC, gt=0)
    ] = 259200.0
    kf_window_seconds: Annotated[
        float, _rule("How long after a customer's message they can be sent something.", _DOC_KF_SEND, gt=0)
    ] = 172800.0
    kf_messages: Annotated[int, _rule("Messages to a customer until they write again.", _DOC_KF_SEND, ge=1)] = 5
    kf_text_bytes: Annotated[int, _rule("Text to a customer; refused as a whole beyond.", _DOC_KF_SEND, ge=1)] = 2048
    kf_msgid_bytes: Annotated[int, _rule("A msgid that the caller gives.", _DOC_KF_SEND, ge=1)] = 32
    kf_repeated_msgid_code: Annotated[
        int,
        _rule(
            "What a msgid that was used before is refused with. Documented is only that it must be unique; the code "
            "is chosen, from that of a msgid that is too long.",
            f"{_DOC_KF_SEND}; {_CHOSEN}",
        ),
    ] = 40058
    kf_repeats_before_budget: Annotated[
        bool,
        _rule(
            "Whether a msgid that was used before is refused before it is looked whether there is room for a message. "
            "Neither order is documented; the other one hides from the sender that the message had arrived.",
            f"{_DOC_KF_SEND}; {_CHOSEN}",
        ),
    ] = False
    kf_menu_items: Annotated[int, _rule("Items of a menu; 95008 beyond.", _DOC_KF_SEND, ge=1)] = 10
    kf_welcome_seconds: Annotated[
        float, _rule("How long the welcome_code of a customer who came in can be used, once.", _DOC_KF_SEND, gt=0)
    ] = 20.0
    kf_pool_needs_servicer: Annotated[
        bool,
        _rule(
            "Whether a customer is put into the waiting pool only while somebody is receiving; else 95019.",
            f"{_DOC_KF_STATE}; not documented",
        ),
    ] = True


class Rule(msgspec.Struct, frozen=True):
    """One rule as the page shows it."""

    name: str
    value: object
    description: str
    source: str


def described(rules: Rules) -> Iterator[Rule]:
    """Every rule with its value, in the order of the definition."""
    for name, hint in get_type_hints(Rules, include_extras=True).items():
        if get_origin(hint) is Annotated:
            meta = next(note for note in get_args(hint) if isinstance(note, Meta))
            source = str((meta.extra or {}).get("source", ""))
            yield Rule(name, getattr(rules, name), meta.description or "", source)


ERRORS: Final[dict[int, str]] = {
    0: "ok",
    86008: "the group was created by another application",
    86004: "too few or too many members",
    86003: "chatid exists",
    86001: "invalid chatid",
    45008: "too many articles",
    40074: "safe is not for news",
    40050: "invalid chatid",
    40003: "invalid userid",
    -1: "system busy",
    6000: "data version conflict",
    40001: "invalid credential",
    40004: "invalid media type",
    40005: "invalid file type",
    40006: "invalid file size",
    40007: "invalid media_id",
    40008: "invalid message type",
    40013: "invalid corpid",
    40014: "invalid access_token",
    40056: "invalid agentid",
    40058: "invalid request parameter",
    41001: "access_token missing",
    41005: "media data missing",
    42001: "access_token expired",
    42014: "invalid task_id",
    42015: "task_id of another application",
    42016: "no such task_id",
    42027: "invalid keyname",
    42028: "invalid url",
    42029: "invalid media_id",
    42030: "invalid appid",
    42031: "invalid card_type",
    42035: "invalid length of horizontal_content_list",
    42036: "invalid length of vertical_content_list",
    42037: "invalid length of option_list",
    42038: "invalid button text",
    42039: "invalid button key",
    42040: "invalid option id",
    42041: "invalid option text",
    42042: "invalid length of jump_list",
    42043: "invalid question_key",
    42044: "invalid image url",
    42045: "missing card_action",
    42046: "invalid text of submit_button",
    42047: "invalid length of select_list",
    42049: "invalid key of submit_button",
    42050: "invalid userid",
    42051: "duplicate action key",
    42052: "message can no longer be recalled",
    43002: "require POST method",
    44004: "text content is empty",
    45001: "media file size out of limit",
    40068: "invalid tagid",
    45002: "content size out of limit",
    45007: "playtime out of limit",
    45009: "api freq out of limit",
    45033: "api concurrent out of limit",
    47001: "data format error",
    60011: "no privilege to access/modify contact/party/agent",
    60123: "invalid party id",
    81013: "user & party & tag all invalid",
    82001: "touser, toparty and totag are all empty",
    82002: "too many parties",
    82003: "too many tags",
    93000: "invalid webhook url, or the robot was removed",
    93004: "the robot is disabled",
    93006: "invalid chatid",
    40096: "invalid external userid",
    48007: "kf account not authorized to the app",
    60111: "userid not found",
    95000: "invalid open_kfid",
    95001: "send msg count limit",
    95002: "send msg time limit",
    95007: "invalid msg token",
    95008: "menu item count exceed limit",
    95013: "conversation end",
    95014: "servicer is not active",
    95016: "not allow to trans to this state",
    95018: "send msg session status invalid",
    95019: "servicer is not receiving",
    301002: "not allow to operate another agent",
    830002: "file is too large for one answer, use Range",
    846605: "req_id may not carry this reply",
    846608: "stream message update expired, cannot update",
    846609: "aibot websocket not subscribed",
    853000: "invalid credential",
}
"""Wording of every code given out here (DOC 90313, 101463). Clients must not read the wording (DOC 90455)."""


class Refused(Exception):
    """A request or frame that the platform answers with an error code."""

    def __init__(self, code: int, detail: str = "") -> None:
        """Args: a code of :data:`ERRORS`, and what it says instead of the usual wording."""
        self.code = code
        self.errmsg = detail or ERRORS[code]
        super().__init__(f"{code} {self.errmsg}")
