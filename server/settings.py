"""Every setting of the service: its name, its unit, its default and a sentence.

``docs/configuration.md`` is made from this module. The file is TOML; the environment
overrides it as ``WECONVERSE_SERVER__SECTION__KEY``.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from program.secret import Secret


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings file."""


class TlsSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Certificates of the gRPC port. Both empty: no TLS, which only loopback may do."""

    certificate_file: Annotated[str, Meta(description="PEM file of the server's certificate chain.")] = ""
    key_file: Annotated[str, Meta(description="PEM file of its private key.")] = ""
    client_ca_file: Annotated[
        str,
        Meta(
            description="PEM file of the authority that signs clients. Set: every caller needs a certificate, and its name is the caller."
        ),
    ] = ""


class CallerSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A calling service that identifies itself with a bearer token."""

    name: Annotated[
        str, Meta(description="The caller's name in logs, metrics and limits.", min_length=1, max_length=64)
    ]
    token_sha256: Annotated[
        tuple[str, ...],
        Meta(
            description="Hexadecimal SHA-256 of its tokens. Two are valid side by side, so that one can be rotated.",
            min_length=1,
            max_length=2,
        ),
    ]


class GrpcSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gRPC port."""

    address: Annotated[str, Meta(description="Where to listen, as `host:port`. Port 0 takes a free one.")] = (
        "127.0.0.1:50051"
    )
    insecure_listen: Annotated[
        bool, Meta(description="Allows an address beyond loopback without TLS and callers. For a closed network only.")
    ] = False
    reflection: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="Server reflection. `auto` offers it on loopback only."),
    ] = "auto"
    tls: TlsSettings = TlsSettings()
    callers: Annotated[
        tuple[CallerSettings, ...],
        Meta(description="Who may call with a bearer token. Empty: everybody who reaches the port."),
    ] = ()
    drain_seconds: Annotated[
        float, Meta(description="Seconds that turns under way get to finish after SIGTERM.", ge=0, le=3600)
    ] = 25.0
    lame_duck_seconds: Annotated[
        float,
        Meta(
            description="Seconds between reporting not-ready and refusing calls, so that balancers can look away.",
            ge=0,
            le=60,
        ),
    ] = 0.0
    max_calls: Annotated[
        int, Meta(description="Calls at a time, streams included, before new ones are refused with `OVERLOADED`.", ge=1)
    ] = 8192


class OperationsSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The port with `/metrics`, `/livez` and `/readyz`."""

    address: Annotated[str, Meta(description="Where to listen, as `host:port`. Empty: nowhere.")] = "127.0.0.1:9464"


class LogSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log lines, one JSON object each. They never hold the text of a message."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The lowest level that is written.")
    ] = "info"
    format: Annotated[Literal["json", "text"], Meta(description="`text` is for reading at a terminal.")] = "json"


class StoreSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The turn rows."""

    path: Annotated[str, Meta(description="The SQLite file. Its folder must exist.")] = "weconverse.db"
    gather_milliseconds: Annotated[
        float,
        Meta(
            description="Milliseconds between two commits at the least; what arrives meanwhile shares the next one. After a pause a commit goes at once.",
            ge=0,
            le=100,
        ),
    ] = 5.0
    payload_retention_hours: Annotated[
        float,
        Meta(
            description="Hours after which question, reply and events of an ended turn are emptied. Memory and log end with them.",
            gt=0,
        ),
    ] = 24.0 * 30
    key_retention_hours: Annotated[
        float, Meta(description="Hours after which the row goes, and its `request_id` may be used anew.", gt=0)
    ] = 24.0 * 90
    retention_interval_minutes: Annotated[float, Meta(description="Minutes between two rounds of retention.", gt=0)] = (
        10.0
    )


class TurnSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How turns run."""

    turn_timeout_seconds: Annotated[
        float, Meta(description="Seconds a turn may take when its caller set no deadline; always for owed turns.", gt=0)
    ] = 120.0
    queue_seconds: Annotated[
        float, Meta(description="Seconds a turn of a waiting caller may stand in the line of its conversation.", gt=0)
    ] = 10.0
    end_reserve_seconds: Annotated[
        float, Meta(description="Seconds of the budget kept for writing the end of a turn.", ge=0)
    ] = 0.5
    max_waiting_per_conversation: Annotated[
        int, Meta(description="Turns of one conversation that may wait behind the running one.", ge=0)
    ] = 5
    max_turns: Annotated[
        int, Meta(description="Turns that may run or wait in all, before new ones are refused with `OVERLOADED`.", ge=1)
    ] = 4096
    linger_seconds: Annotated[
        float,
        Meta(description="Seconds for which a turn with a `request_id` goes on after its last listener left.", ge=0),
    ] = 30.0
    progress_seconds: Annotated[
        float, Meta(description="Seconds without anything to show after which a stream says what it waits for.", gt=0)
    ] = 5.0
    keep_ended_seconds: Annotated[
        float,
        Meta(description="Seconds for which an ended turn is answered from memory, before the store is asked.", ge=0),
    ] = 10.0
    max_claims: Annotated[
        int,
        Meta(
            description="How often an owed turn may be running when the process dies, before it is given up with an apology.",
            ge=1,
        ),
    ] = 3
    max_input_characters: Annotated[int, Meta(description="Characters of one message.", ge=1)] = 20000
    max_reply_characters: Annotated[
        int, Meta(description="Characters after which a reply is ended as cut for length.", ge=100)
    ] = 200000


class DeliverySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How owed turns reach their channel."""

    max_retries: Annotated[
        int, Meta(description="How often a channel may say `RETRY` before a turn is undeliverable.", ge=0)
    ] = 8
    window_hours: Annotated[float, Meta(description="Hours after which an owed turn is undeliverable.", gt=0)] = 24.0


class MemorySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept ready of recent conversations; the turn rows hold the rest."""

    conversations: Annotated[int, Meta(description="Conversations whose recent rounds are kept in process.", ge=0)] = (
        10000
    )
    max_prompt_tokens: Annotated[
        int,
        Meta(
            description="Tokens, by estimate, that instructions, memory and question may take; older rounds are left out first.",
            ge=64,
        ),
    ] = 6000


class CacheSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Replies that are given again to the same question."""

    entries: Annotated[
        int, Meta(description="Replies kept; the least recently used goes first. 0 switches the cache off.", ge=0)
    ] = 1000
    ttl_seconds: Annotated[float, Meta(description="Seconds for which a reply may be given again.", gt=0)] = 3600.0


class TextSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fixed sentences of an assistant."""

    greeting: Annotated[str, Meta(description="What a person is told who opens the chat. Empty: nothing.")] = (
        "您好，我是企业服务助手。请直接提问；发送「重新开始」可以清空上下文。"
    )
    reset_done: Annotated[str, Meta(description="The answer to a reset word.")] = (
        "好的，之前的对话已清空，我们重新开始。"
    )
    busy: Annotated[str, Meta(description="Told to a person who has sent too many messages at once.")] = (
        "您的消息有点多，我还在回答前面的问题。请稍等片刻再发送这一条。"
    )
    apology: Annotated[str, Meta(description="Told to a person whose question could not be answered.")] = (
        "抱歉，这个问题暂时没能回答。请稍后再试一次。"
    )
    timed_out: Annotated[str, Meta(description="Told to a person whose answer took too long.")] = (
        "抱歉，回答这个问题用时过长。请稍后再试，或把问题拆小一些。"
    )
    quarantined: Annotated[str, Meta(description="Told to a person whose question stopped the service repeatedly.")] = (
        "抱歉，这个问题无法处理，已通知管理员。请换一种问法。"
    )
    cancelled: Annotated[str, Meta(description="Told to a person whose question was stopped.")] = "已停止回答。"
    too_long: Annotated[str, Meta(description="Told to a person whose message is too long.")] = (
        "这条消息太长了，请缩短或分成几条发送。"
    )
    media_not_supported: Annotated[
        str, Meta(description="Told to a person who sent what no model of the assistant takes.")
    ] = "抱歉，我目前只能处理文字消息。请用文字描述您的问题。"
    provider_blocked: Annotated[str, Meta(description="Told to a person whose reply the model withheld.")] = (
        "抱歉，这个问题我无法回答。请换一个问题。"
    )


class AssistantSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers: instructions, model and manners."""

    instructions: Annotated[str, Meta(description="The system prompt.")] = "作为企业服务助手,请用专业简洁的语言回答"
    model: Annotated[str, Meta(description="The name of an entry in `models`.")] = "default"
    temperature: Annotated[float, Meta(description="Sampling temperature.", ge=0, le=2)] = 0.7
    max_output_tokens: Annotated[int, Meta(description="The most tokens of a reply.", ge=1, le=32768)] = 1500
    memory_rounds: Annotated[
        int, Meta(description="Rounds of question and answer the model sees. 0: none.", ge=0, le=100)
    ] = 5
    memory_idle_minutes: Annotated[
        float, Meta(description="Minutes of silence after which the context lapses. 0: never.", ge=0)
    ] = 120.0
    reset_words: Annotated[
        tuple[str, ...],
        Meta(
            description="Messages that clear the context when they are all a person says. Case and width do not matter."
        ),
    ] = ("/new", "/reset", "重新开始", "清空上下文")
    language_code: Annotated[str, Meta(description="The language of the fixed sentences, as a BCP-47 tag.")] = "zh-CN"
    texts: TextSettings = TextSettings()


class ModelSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model backend."""

    protocol: Annotated[
        Literal["openai_chat", "scripted"],
        Meta(
            description="`openai_chat`: any server with an OpenAI-style `/chat/completions`. `scripted`: the demonstration model, which needs no key."
        ),
    ] = "openai_chat"
    base_url: Annotated[str, Meta(description="The address before `/chat/completions`.")] = ""
    api_key: Annotated[
        Secret, Meta(description="The key, as `env:NAME` or `file:PATH`. Empty for servers that want none.")
    ] = field(default_factory=lambda: Secret(""))
    model: Annotated[str, Meta(description="The model's name at the vendor. Empty: the name of this entry.")] = ""
    max_tokens_name: Annotated[
        Literal["max_tokens", "max_completion_tokens"], Meta(description="What the backend calls the cap on output.")
    ] = "max_tokens"
    send_stream_options: Annotated[
        bool, Meta(description="Whether to ask for token counts in the stream; a few servers refuse that.")
    ] = True
    extra_body: Annotated[
        dict[str, object], Meta(description="Fields added to each request as they are, such as a thinking switch.")
    ] = field(default_factory=dict)
    connect_seconds: Annotated[float, Meta(description="Seconds for connecting.", gt=0)] = 5.0
    first_token_seconds: Annotated[
        float, Meta(description="Seconds until the first text or thought; keep-alive comments do not count.", gt=0)
    ] = 20.0
    idle_seconds: Annotated[float, Meta(description="Seconds of silence between two pieces.", gt=0)] = 15.0
    total_seconds: Annotated[float, Meta(description="Seconds for the whole reply.", gt=0)] = 300.0
    max_connections: Annotated[
        int, Meta(description="Calls to this backend at a time; others wait within their budget.", ge=1)
    ] = 512
    max_attempts: Annotated[int, Meta(description="Attempts in all, as long as no text was passed on.", ge=1, le=5)] = 3
    script_file: Annotated[
        str, Meta(description="`scripted` only: a TOML file of questions and answers. Empty: the one that ships.")
    ] = ""
    tokens_per_second: Annotated[
        float, Meta(description="`scripted` only: the pace of the reply. 0: all at once.", ge=0)
    ] = 40.0


class Settings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the service."""

    grpc: GrpcSettings = GrpcSettings()
    operations: OperationsSettings = OperationsSettings()
    log: LogSettings = LogSettings()
    store: StoreSettings = StoreSettings()
    turns: TurnSettings = TurnSettings()
    delivery: DeliverySettings = DeliverySettings()
    memory: MemorySettings = MemorySettings()
    cache: CacheSettings = CacheSettings()
    assistants: Annotated[
        dict[str, AssistantSettings],
        Meta(description="Assistants by name. `default` answers where a request names none."),
    ] = field(default_factory=lambda: {"default": AssistantSettings()})
    models: Annotated[dict[str, ModelSettings], Meta(description="Model backends by name.")] = field(
        default_factory=lambda: {"default": ModelSettings(protocol="scripted")}
    )
