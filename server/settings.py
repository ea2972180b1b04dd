"""Every setting of the service: its name, its unit, its default and a sentence.

``docs/configuration.md`` is made from this module. The file is TOML; the environment
overrides it as ``WECONVERSE_SERVER__SECTION__KEY``.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

from program.secret import Secret

ActionName = Literal["pass", "flag", "mask", "replace", "hand_over", "block"]


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
    admins: Annotated[
        tuple[CallerSettings, ...],
        Meta(
            description="Who may look at and change word lists with a bearer token of their own, which is good for nothing else. Empty: nobody."
        ),
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
    max_large_mebibytes: Annotated[
        int,
        Meta(
            description="Mebibytes that requests with files may have together while their calls last, before new ones are refused with `OVERLOADED`. The service takes some four times as much for them.",
            ge=32,
        ),
    ] = 128


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
        int,
        Meta(
            description="How often a channel may say `RETRY` before a turn is undeliverable. `WAITING` does not count.",
            ge=0,
        ),
    ] = 8
    window_hours: Annotated[
        float,
        Meta(
            description="Hours after which an owed turn is undeliverable. Channels give up before, where their platform does.",
            gt=0,
        ),
    ] = 48.0
    max_owed_pushes: Annotated[
        int,
        Meta(
            description="Messages of `Push` that may wait for one account, before new ones are refused with `OVERLOADED`.",
            ge=1,
        ),
    ] = 1000
    max_owed_push_mebibytes: Annotated[
        int,
        Meta(
            description="Mebibytes that they may take together, with their pictures and files; the same then.",
            ge=24,
        ),
    ] = 256


class MemorySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept ready of recent conversations; the turn rows hold the rest."""

    conversations: Annotated[int, Meta(description="Conversations whose recent rounds are kept in process.", ge=0)] = (
        10000
    )
    max_prompt_tokens: Annotated[
        int,
        Meta(
            description="Tokens, by estimate, that instructions, memory and question may take; older rounds are left out first. With a document of `media.max_characters` in it a round takes up to 9000.",
            ge=64,
        ),
    ] = 20000


class SemanticCacheSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers to questions that mean the same, for assistants with `semantic_cache`."""

    embeddings: Annotated[str, Meta(description="The name of an entry in `embeddings`. Empty: off.")] = ""
    calibration_file: Annotated[
        str,
        Meta(
            description="What `python -m server --calibrate-cache FILE` has written: the similarity that counts as the same, and the share of wrong answers it was measured at."
        ),
    ] = ""
    max_wrong_share: Annotated[
        float, Meta(description="The upper bound on wrong answers that a calibration must prove.", gt=0, le=0.2)
    ] = 0.01
    entries: Annotated[int, Meta(description="Answers kept for each assistant and caller.", ge=1, le=100000)] = 2000
    ttl_seconds: Annotated[float, Meta(description="Seconds for which an answer may be given again.", gt=0)] = 3600.0


class CacheSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Replies that are given again to the same question."""

    entries: Annotated[
        int, Meta(description="Replies kept; the least recently used goes first. 0 switches the cache off.", ge=0)
    ] = 1000
    ttl_seconds: Annotated[float, Meta(description="Seconds for which a reply may be given again.", gt=0)] = 3600.0
    semantic: SemanticCacheSettings = SemanticCacheSettings()


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
    ] = "抱歉，我目前还处理不了这类消息。请用文字描述您的问题。"
    media_too_large: Annotated[
        str, Meta(description="Told to a person who sent a picture, recording or file that is too large to read.")
    ] = "这个文件太大了，我读不了。请压缩、拆分，或把要点用文字发给我。"
    media_unavailable: Annotated[
        str, Meta(description="Told to a person whose file the channel does not give, or not any more.")
    ] = "抱歉，我没能取到您发的文件，它可能已经过期。请重新发送一次。"
    media_damaged: Annotated[str, Meta(description="Told to a person whose file cannot be opened.")] = (
        "这个文件打不开，可能不完整或已损坏。请重新导出后再发一次，或把内容用文字发给我。"
    )
    media_unreadable: Annotated[
        str, Meta(description="Told to a person who sent a file of a kind that nobody here reads.")
    ] = "抱歉，我读不了这种文件。我能读 PDF、Word（docx）、Excel（xlsx）、PPT（pptx）、文本和图片；其他内容请用文字描述。"
    media_encrypted: Annotated[str, Meta(description="Told to a person whose file wants a password.")] = (
        "这个文件有密码保护，我打不开。请去掉密码后再发一次。"
    )
    media_without_text: Annotated[
        str, Meta(description="Told to a person whose file has no text in it: an empty one, or a scan.")
    ] = "这个文件里没有可读取的文字，可能是空文件或扫描件。请发送带文字的版本，或把要看的页面截图发给我。"
    media_too_slow: Annotated[str, Meta(description="Told to a person whose file took too long to read.")] = (
        "这个文件没能在限定时间内读完。请稍后再发一次，或换一个小一些的文件。"
    )
    voice_not_heard: Annotated[
        str, Meta(description="Told to a person who sent a recording where nobody transcribes recordings.")
    ] = "抱歉，我暂时听不了语音。请用文字描述您的问题，或把语音转成文字后发给我。"
    voice_not_understood: Annotated[
        str, Meta(description="Told to a person whose recording could not be transcribed.")
    ] = "抱歉，这段语音我没能听清。请再说一次，或改用文字。"
    rate_limited: Annotated[str, Meta(description="Told to a person who has reached a limit.")] = (
        "您的提问有些频繁，已达到使用上限。请稍后再试。"
    )
    unreachable: Annotated[str, Meta(description="Told to a person when no model can be reached.")] = (
        "抱歉，暂时连接不上智能服务，已有答案的常见问题仍可提问。请稍后再试。"
    )
    provider_blocked: Annotated[str, Meta(description="Told to a person whose reply the model withheld.")] = (
        "抱歉，这个问题我无法回答。请换一个问题。"
    )
    input_blocked: Annotated[str, Meta(description="Told to a person whose message has words that are blocked.")] = (
        "抱歉，这条消息里有不便讨论的内容，我无法回答。请换一种说法，或换一个问题。"
    )
    output_blocked: Annotated[
        str, Meta(description="Told to a person in the place of a reply that has words that are blocked.")
    ] = "抱歉，这个问题的回答不便展示。请换一个问题。"
    handed_over: Annotated[str, Meta(description="Told to a person whose conversation goes to a human colleague.")] = (
        "这个问题需要人工处理，已为您转给同事，请稍候。"
    )


class IntentSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What kind of question this is, and who answers it how. All rules that are set must hold; without any, only the classifier or the caller chooses it."""

    models: Annotated[
        tuple[str, ...],
        Meta(
            description="Models or splits in order of preference. Empty: those of the assistant.",
        ),
    ] = ()
    temperature: Annotated[
        Annotated[float, Meta(ge=0, le=2)] | None,
        Meta(
            description="Sampling temperature: 0.1 to 0.3 for support, 0.7 to 0.9 for creative work. Unset: the assistant's."
        ),
    ] = None
    max_output_tokens: Annotated[
        Annotated[int, Meta(ge=1, le=32768)] | None,
        Meta(description="The most tokens of a reply. Unset: the assistant's."),
    ] = None
    description: Annotated[
        str, Meta(description="A sentence that tells the classifier what belongs here. Empty: it never chooses it.")
    ] = ""
    words: Annotated[
        tuple[str, ...], Meta(description="Rule: the question has one of these, whatever its case and width.")
    ] = ()
    patterns: Annotated[
        tuple[str, ...],
        Meta(description="Rule: one of these regular expressions is found. Needs the package google-re2."),
    ] = ()
    min_characters: Annotated[int, Meta(description="Rule: the question has at least so many characters.", ge=0)] = 0
    max_characters: Annotated[
        int, Meta(description="Rule: the question has at most so many characters. 0: any number.", ge=0)
    ] = 0
    languages: Annotated[
        tuple[Literal["zh", "en", "ja", "ko", "other"], ...],
        Meta(description="Rule: the question is mostly in one of these, told by its characters."),
    ] = ()
    has_pictures: Annotated[
        bool | None, Meta(description="Rule: the message has pictures, or has none. Unset: either.")
    ] = None


class ClassifierSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A small model that chooses an intent where no rule did."""

    model: Annotated[str, Meta(description="The name of an entry in `models`. Empty: no classifier.")] = ""
    budget_seconds: Annotated[
        float,
        Meta(description="Seconds it may take; afterwards the assistant's own models answer.", gt=0, le=10),
    ] = 1.5
    remembered_questions: Annotated[
        int, Meta(description="Questions whose intent is remembered, so that the same one costs nothing.", ge=0)
    ] = 2000


class PiiRecogniserSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recogniser of personal data beside our own ones, such as a model for names: a service of the operator's over HTTP."""

    url: Annotated[
        str,
        Meta(
            description='Where `{"text"}` is posted as JSON; the answer is `{"spans": [{"kind", "start", "end", "confidence"}]}`, with places in characters. Empty: nobody is asked.'
        ),
    ] = ""
    api_key: Annotated[Secret, Meta(description="Sent as a bearer token, as `env:NAME` or `file:PATH`.")] = field(
        default_factory=lambda: Secret("")
    )
    plain_http: Annotated[
        bool, Meta(description="Allows an address beyond loopback without TLS. For a closed network only.")
    ] = False
    budget_seconds: Annotated[
        float, Meta(description="Seconds a question may take, waiting for a free place included.", gt=0, le=30)
    ] = 1.0
    when_unavailable: Annotated[
        Literal["allow", "block"],
        Meta(
            description="What becomes of a turn when there is no answer: it goes on with what our own recognisers found, or it ends."
        ),
    ] = "block"
    min_confidence: Annotated[float, Meta(description="Findings below it are left out.", ge=0, le=1)] = 0.5
    max_calls: Annotated[int, Meta(description="Questions at a time; others wait within their budget.", ge=1)] = 64


class PiiSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Personal data on its way to the model and back. In the log it is always masked."""

    mode: Annotated[
        Literal["off", "mask", "placeholders"],
        Meta(
            description="What the model reads: the text as it is, masks such as `139＊＊＊＊5678`, or names such as `[手机号1]` for which the person reads the value again."
        ),
    ] = "off"
    mask_output: Annotated[
        bool,
        Meta(description="Whether personal data is masked that a model writes and that was not in what it was told."),
    ] = False
    kinds: Annotated[
        tuple[
            Literal[
                "mobile",
                "id_card",
                "bank_card",
                "email",
                "address",
                "landline",
                "plate",
                "passport",
                "permit",
                "wechat_id",
                "qq",
                "name",
                "birthday",
                "secret",
                "ip",
                "mac",
                "uscc",
            ],
            ...,
        ],
        Meta(
            description="What counts as personal data. Addresses of machines and codes of companies do only if named."
        ),
    ] = (
        "mobile",
        "id_card",
        "bank_card",
        "email",
        "address",
        "landline",
        "plate",
        "passport",
        "permit",
        "wechat_id",
        "qq",
        "name",
        "birthday",
        "secret",
    )
    recogniser: PiiRecogniserSettings = PiiRecogniserSettings()


class AssistantSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who answers: instructions, model and manners."""

    instructions: Annotated[str, Meta(description="The system prompt.")] = "作为企业服务助手,请用专业简洁的语言回答"
    model: Annotated[str, Meta(description="The name of an entry in `models` or `splits`.")] = "default"
    fallback_models: Annotated[
        tuple[str, ...],
        Meta(description="Who answers when that one fails: models or splits in order of preference."),
    ] = ()
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
    handover_words: Annotated[
        tuple[str, ...],
        Meta(
            description="Messages that ask for a person when they are all a person says, where the channel can bring one in. Case and width do not matter."
        ),
    ] = ("转人工", "转接人工", "人工客服", "人工服务", "找人工", "talk to a human")
    intents: Annotated[
        dict[str, IntentSettings],
        Meta(description="Kinds of questions by name; the first whose rules hold is taken, in the order of the file."),
    ] = field(default_factory=dict)
    classifier: ClassifierSettings = ClassifierSettings()
    merge_seconds: Annotated[
        float,
        Meta(
            description="Seconds to wait whether the person writes on, so that messages sent in a row get one answer. 0: off. Only for turns that are owed to a channel.",
            ge=0,
            le=10,
        ),
    ] = 0.0
    semantic_cache: Annotated[
        bool,
        Meta(
            description="Whether questions that mean the same may share an answer. Needs `cache.semantic` with a calibration."
        ),
    ] = False
    filter_policy: Annotated[
        str,
        Meta(description="The name of an entry in `filter.policies`. Empty: no word is looked for in this assistant."),
    ] = "default"
    pii: PiiSettings = PiiSettings()
    language_code: Annotated[str, Meta(description="The language of the fixed sentences, as a BCP-47 tag.")] = "zh-CN"
    texts: TextSettings = TextSettings()


class KeySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key of a model's account."""

    secret: Annotated[
        Secret,
        Meta(
            description="The key, as `env:NAME` or `file:PATH`. A file is reread while the server runs; several lines are several keys, so that the old and the new one are valid side by side."
        ),
    ]
    weight: Annotated[float, Meta(description="Its share of the calls, against the other keys.", gt=0)] = 1.0
    quota_group: Annotated[
        str,
        Meta(
            description="Keys of one account share its limits: give them one name. Empty: the keys of this model that name none."
        ),
    ] = ""
    max_age_days: Annotated[
        float,
        Meta(
            description="Days after which a key should be replaced; a metric and a log line say so in the last tenth. Counted from the file's time, so only for `file:`. 0: never.",
            ge=0,
        ),
    ] = 0.0


class LimitSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one thing. 0 is no limit."""

    requests_per_minute: Annotated[
        int, Meta(description="Calls in any 60 seconds; of persons, callers and the whole service, turns.", ge=0)
    ] = 0
    tokens_per_minute: Annotated[
        int,
        Meta(
            description="Tokens read and written a minute: an estimate is reserved before a call, and settled after it.",
            ge=0,
        ),
    ] = 0
    concurrent_calls: Annotated[
        int, Meta(description="Calls at a time; others wait their turn within their budget.", ge=0)
    ] = 0
    spending_per_day: Annotated[
        float,
        Meta(
            description="Money a day, from midnight UTC, in the currency of the prices. Calls beyond it are refused. Each model that it is over needs a `price`.",
            ge=0,
        ),
    ] = 0.0


class ModelLimitSettings(LimitSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of a model. What is not set keeps its default, also beside others that are; 0 is no limit."""

    requests_per_minute: Annotated[
        int, Meta(description="Calls in any 60 seconds, each attempt of a turn by itself. 0: any number.", ge=0)
    ] = 50


class PriceSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a million tokens cost, in one currency for the whole file."""

    input: Annotated[float, Meta(description="Tokens read.", ge=0)] = 0.0
    cached_input: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="Tokens that the vendor had in its own cache. Unset: like `input`."),
    ] = None
    output: Annotated[float, Meta(description="Tokens written, thoughts included.", ge=0)] = 0.0


class TritonSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tensors of a model behind Triton. The defaults are those of its vLLM backend."""

    text_input: Annotated[str, Meta(description="The BYTES tensor with the prompt.")] = "text_input"
    text_output: Annotated[str, Meta(description="The BYTES tensor with the text.")] = "text_output"
    stream_input: Annotated[str, Meta(description="The BOOL tensor that asks for a stream. Empty: none is sent.")] = (
        "stream"
    )
    parameters_input: Annotated[
        str, Meta(description="The BYTES tensor with sampling parameters as JSON. Empty: none is sent.")
    ] = "sampling_parameters"
    exclude_input: Annotated[
        str, Meta(description="The BOOL tensor that keeps the prompt out of the output. Empty: none is sent.")
    ] = "exclude_input_in_output"
    max_tokens_input: Annotated[
        str,
        Meta(description="An INT32 tensor for the most tokens (`max_tokens` of TensorRT-LLM). Empty: none is sent."),
    ] = ""
    temperature_input: Annotated[
        str, Meta(description="An FP32 tensor for the temperature (TensorRT-LLM). Empty: none is sent.")
    ] = ""
    finish_reason_output: Annotated[
        str, Meta(description="The BYTES tensor with the finish reason. Empty: the model has none.")
    ] = "finish_reason"
    input_count_output: Annotated[str, Meta(description="The tensor with the tokens read. Empty: none.")] = (
        "num_input_tokens"
    )
    output_count_output: Annotated[str, Meta(description="The tensor with the tokens written. Empty: none.")] = (
        "num_output_tokens"
    )
    decoupled: Annotated[
        bool,
        Meta(description="Whether the model streams (`ModelStreamInfer`); otherwise `ModelInfer` gives one answer."),
    ] = True
    cumulative: Annotated[bool, Meta(description="Whether each response repeats the text so far.")] = False
    prompt_template: Annotated[
        str,
        Meta(
            description="How messages become one prompt: `chatml`, `plain`, or a file with a Jinja template (needs the package jinja2)."
        ),
    ] = "chatml"


class ModelSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model backend."""

    preset: Annotated[
        str,
        Meta(
            description="The vendor, such as `deepseek`: it knows addresses, names of parameters and errors. docs/models.md lists them all. Empty: only what is set here."
        ),
    ] = ""
    transport: Annotated[
        Literal["http", "grpc"],
        Meta(description="How to reach it, for vendors that offer both: the one line to change."),
    ] = "http"
    protocol: Annotated[
        Literal[
            "",
            "openai_chat",
            "anthropic_messages",
            "gemini",
            "xai_chat",
            "gemini_grpc",
            "kserve",
            "vllm_engine",
            "sglang_engine",
            "provider_service",
            "weconverse",
            "scripted",
        ],
        Meta(
            description="What is spoken. Empty: what the preset speaks over this transport, and without a preset `openai_chat` over HTTP and `provider_service` over gRPC. `scripted`: the demonstration model, which needs no key."
        ),
    ] = ""
    base_url: Annotated[str, Meta(description="HTTP: the address before `/chat/completions`. Empty: the preset's.")] = (
        ""
    )
    plain_http: Annotated[
        bool,
        Meta(description="HTTP: allows sending a key to another machine without TLS. For a closed network only."),
    ] = False
    target: Annotated[str, Meta(description="gRPC: the address as `host:port`. Empty: the preset's.")] = ""
    tls: Annotated[
        bool | None,
        Meta(description="gRPC: whether to use TLS. Unset: yes, but for loopback addresses."),
    ] = None
    ca_file: Annotated[
        str, Meta(description="gRPC: PEM file of the authority that signed the backend. Empty: the system's.")
    ] = ""
    certificate_file: Annotated[str, Meta(description="gRPC: PEM file of a client certificate, for mTLS.")] = ""
    key_file: Annotated[str, Meta(description="gRPC: PEM file of its private key.")] = ""
    api_key: Annotated[
        Secret, Meta(description="The key, as `env:NAME` or `file:PATH`. Empty for servers that want none.")
    ] = field(default_factory=lambda: Secret(""))
    keys: Annotated[tuple[KeySettings, ...], Meta(description="Several keys in the place of `api_key`.")] = ()
    model: Annotated[str, Meta(description="The model's name at the vendor. Empty: the name of this entry.")] = ""
    assistant: Annotated[
        str, Meta(description="`weconverse` only: the assistant that answers there. Empty: its default.")
    ] = ""
    pictures: Annotated[
        Literal["preset", "none", "inline", "any"],
        Meta(
            description="Whether the model takes pictures: not at all, as bytes, or as addresses too. `preset`: as the vendor's models commonly do."
        ),
    ] = "preset"
    thinking: Annotated[
        Literal["default", "on", "off"],
        Meta(
            description="Thinking aloud before the answer, where the vendor has a switch. `default`: as it does itself."
        ),
    ] = "default"
    max_tokens_name: Annotated[
        Literal["", "max_tokens", "max_completion_tokens"],
        Meta(description="What the backend calls the cap on output. Empty: as the preset says, else `max_tokens`."),
    ] = ""
    send_stream_options: Annotated[
        bool | None,
        Meta(
            description="Whether to ask for token counts in the stream; a few servers refuse that. Unset: as the preset says, else yes."
        ),
    ] = None
    extra_body: Annotated[dict[str, object], Meta(description="Fields added to each request as they are.")] = field(
        default_factory=dict
    )
    extra_headers: Annotated[
        dict[str, str], Meta(description="Headers, or gRPC metadata, added to each call. Not for secrets.")
    ] = field(default_factory=dict)
    limits: Annotated[ModelLimitSettings, Meta(description="Limits of this model, over all keys.")] = (
        ModelLimitSettings()
    )
    price: Annotated[
        PriceSettings | None,
        Meta(
            description="What it costs; `{}` is nothing. Unset: unknown, which no cap on spending over this model allows."
        ),
    ] = None
    batch: Annotated[
        Literal["none", "vllm_chat_batch", "completions_array"],
        Meta(
            description="How calls of `BatchConverse` may share one call to the backend; chats that stream never do. Triton batches by itself."
        ),
    ] = "none"
    batch_size: Annotated[int, Meta(description="Calls that may share one.", ge=2, le=64)] = 16
    batch_milliseconds: Annotated[float, Meta(description="Milliseconds to wait for others.", ge=0, le=100)] = 10.0
    triton: TritonSettings = TritonSettings()
    connect_seconds: Annotated[float, Meta(description="Seconds for connecting.", gt=0)] = 5.0
    first_token_seconds: Annotated[
        float, Meta(description="Seconds until the first text or thought; keep-alive comments do not count.", gt=0)
    ] = 20.0
    idle_seconds: Annotated[float, Meta(description="Seconds of silence between two pieces.", gt=0)] = 15.0
    total_seconds: Annotated[float, Meta(description="Seconds for the whole reply.", gt=0)] = 300.0
    max_connections: Annotated[
        int, Meta(description="Calls to this backend at a time; others wait within their budget.", ge=1)
    ] = 512
    max_attempts: Annotated[int, Meta(description="Attempts of one turn at this model.", ge=1, le=5)] = 3
    script_file: Annotated[
        str, Meta(description="`scripted` only: a TOML file of questions and answers. Empty: the one that ships.")
    ] = ""
    tokens_per_second: Annotated[
        float, Meta(description="`scripted` only: the pace of the reply. 0: all at once.", ge=0)
    ] = 40.0


class RoutingSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to try again, and where. The numbers are those that gateways have settled on."""

    max_attempts: Annotated[int, Meta(description="Attempts of one turn over all models.", ge=1, le=10)] = 5
    first_backoff_seconds: Annotated[
        float,
        Meta(description="The bound of the first wait; it doubles with each, and the wait is random below it.", gt=0),
    ] = 0.5
    longest_backoff_seconds: Annotated[float, Meta(description="Where doubling ends.", gt=0)] = 8.0
    longest_hint_seconds: Annotated[
        float, Meta(description="The longest wait that a vendor may ask for; beyond it the next model is taken.", ge=0)
    ] = 5.0
    retry_share: Annotated[
        float, Meta(description="Second attempts at one model, as a share of its calls over 10 seconds.", ge=0, le=1)
    ] = 0.2
    carry_refused_content: Annotated[
        bool, Meta(description="Whether a question that one vendor refuses for its content is shown to the next.")
    ] = False
    restart_after_text: Annotated[
        bool,
        Meta(
            description="Whether a reply that breaks off after text was shown is begun anew: by the next model, or by the same one where it is the only one."
        ),
    ] = True
    breaker_window_seconds: Annotated[float, Meta(description="Seconds that the circuit breaker looks back.", gt=0)] = (
        30.0
    )
    breaker_min_calls: Annotated[int, Meta(description="Calls in the window before it judges.", ge=1)] = 10
    breaker_failure_share: Annotated[
        float, Meta(description="The share of failures at which it opens.", gt=0, le=1)
    ] = 0.5
    breaker_connect_failures: Annotated[
        int, Meta(description="Failures to connect in a row at which it opens.", ge=1)
    ] = 5
    breaker_open_seconds: Annotated[
        float, Meta(description="Seconds it stays open; doubles with each failed probe.", gt=0)
    ] = 10.0
    breaker_longest_open_seconds: Annotated[float, Meta(description="Where doubling ends.", gt=0)] = 120.0
    overload_seconds: Annotated[
        float,
        Meta(
            description="Seconds that a model rests that reports to be overloaded; up to six times as long if it goes on.",
            gt=0,
        ),
    ] = 5.0
    rate_limit_seconds: Annotated[
        float,
        Meta(description="Seconds that a quota group rests after a rate limit without a hint; doubles up to 60.", gt=0),
    ] = 2.0
    quota_minutes: Annotated[
        float,
        Meta(
            description="Minutes that a quota group rests whose money or plan has run out; up to six times as long if it goes on.",
            gt=0,
        ),
    ] = 10.0
    not_found_minutes: Annotated[
        float, Meta(description="Minutes that a model rests that its vendor does not know.", gt=0)
    ] = 5.0
    refused_key_minutes: Annotated[
        float, Meta(description="Minutes after which a refused key is tried again; a changed file ends the wait.", gt=0)
    ] = 30.0
    reread_keys_seconds: Annotated[float, Meta(description="Seconds between two looks at the files of keys.", gt=0)] = (
        5.0
    )


class SplitSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models that stand in for one another; a conversation stays with its choice."""

    weights: Annotated[
        dict[str, float],
        Meta(
            description="Models by name, and their shares: `{ stable = 95, canary = 5 }`. The others follow when one fails."
        ),
    ]


class SharedLimitSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits beside those of the models. A cached reply costs nothing."""

    shadow: Annotated[bool, Meta(description="Counts and logs what would be refused, and refuses nothing.")] = False
    person: Annotated[LimitSettings, Meta(description="Of each person.")] = LimitSettings()
    caller: Annotated[LimitSettings, Meta(description="Of each calling service that has no entry in `callers`.")] = (
        LimitSettings()
    )
    callers: Annotated[dict[str, LimitSettings], Meta(description="Of calling services by name.")] = field(
        default_factory=dict
    )
    quota_groups: Annotated[dict[str, LimitSettings], Meta(description="Of vendors' accounts, by `quota_group`.")] = (
        field(default_factory=dict)
    )
    total: Annotated[LimitSettings, Meta(description="Of the whole service.")] = LimitSettings()


class EmbeddingSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that turns texts into vectors, over an OpenAI-style `/embeddings`."""

    base_url: Annotated[str, Meta(description="The address before `/embeddings`.")]
    api_key: Annotated[Secret, Meta(description="The key, as `env:NAME` or `file:PATH`.")] = field(
        default_factory=lambda: Secret("")
    )
    plain_http: Annotated[
        bool, Meta(description="Allows sending a key to another machine without TLS. For a closed network only.")
    ] = False
    model: Annotated[str, Meta(description="The model's name at the vendor. Empty: the name of this entry.")] = ""
    dimensions: Annotated[int, Meta(description="How long vectors shall be. 0: as the model gives them.", ge=0)] = 0
    batch_size: Annotated[int, Meta(description="Texts that may share one call.", ge=1, le=256)] = 32
    batch_milliseconds: Annotated[
        float, Meta(description="Milliseconds to wait for others while a call is under way.", ge=0, le=100)
    ] = 10.0
    budget_seconds: Annotated[
        float, Meta(description="Seconds it may take; afterwards the question goes to the model.", gt=0, le=30)
    ] = 1.0


class MediaSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pictures and documents are read, each in a process of its own."""

    seconds: Annotated[
        float,
        Meta(
            description="Seconds that reading one file may take, beside waiting for a free process; with that, never more than its caller waits.",
            gt=0,
            le=60,
        ),
    ] = 4.0
    max_characters: Annotated[
        int,
        Meta(
            description="Characters that are read of one document. With all that was typed they never exceed `turns.max_input_characters`.",
            ge=100,
            le=1000000,
        ),
    ] = 12000
    picture_edge: Annotated[
        int,
        Meta(
            description="A picture keeps as many points as a square of this edge has, and may be three times as long. Larger ones are shrunk, also those above 2 MiB.",
            ge=256,
            le=4096,
        ),
    ] = 2048
    picture_quality: Annotated[
        int, Meta(description="The JPEG quality of pictures that are made anew.", ge=60, le=95)
    ] = 85
    processes: Annotated[
        int,
        Meta(
            description="Files read at a time; others wait, and conversations take turns. Each takes at most 80 MiB, for a fraction of a second.",
            ge=1,
            le=64,
        ),
    ] = 2


class SpeechSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who listens to recordings: a service with an OpenAI-style `/audio/transcriptions`."""

    base_url: Annotated[
        str, Meta(description="The address before `/audio/transcriptions`. Empty: nobody, and people are told so.")
    ] = ""
    api_key: Annotated[
        Secret, Meta(description="The key, as `env:NAME` or `file:PATH`. Empty for servers that want none.")
    ] = field(default_factory=lambda: Secret(""))
    plain_http: Annotated[
        bool,
        Meta(
            description="Allows sending key and recordings to another machine without TLS. For a closed network only."
        ),
    ] = False
    model: Annotated[str, Meta(description="The model's name there.")] = "whisper-1"
    language: Annotated[
        str, Meta(description="What is spoken, as ISO 639-1. Empty: the model finds out.", max_length=8)
    ] = "zh"
    seconds: Annotated[
        float,
        Meta(description="Seconds that one recording may take; never more than its caller waits.", gt=0, le=300),
    ] = 20.0
    convert: Annotated[
        Literal["wav", "none"],
        Meta(
            description="`wav`: recordings become WAV first, because hardly any service takes WeCom's AMR; needs the package av. `none`: they are sent as they came."
        ),
    ] = "wav"
    max_recording_seconds: Annotated[
        int, Meta(description="Seconds of a recording that are listened to, where it is converted.", ge=1, le=480)
    ] = 120
    max_calls: Annotated[
        int, Meta(description="Recordings at a time; others wait within their time.", ge=1, le=1000)
    ] = 8


class PolicySettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a word of a list means, by its tag. What an entry says of itself goes before it."""

    input: Annotated[
        dict[str, ActionName],
        Meta(
            description="What people say: tag → `pass`, `flag` (log and count), `mask`, `replace`, `hand_over` (to a person), `block` (a fixed sentence is the answer). `mask` and `replace` hide the words from model and memory."
        ),
    ] = field(default_factory=dict)
    output: Annotated[
        dict[str, ActionName],
        Meta(
            description="What models say: tag → action. `block` and `hand_over` stop the model and put a fixed sentence in the place of its reply."
        ),
    ] = field(default_factory=dict)
    other_input: Annotated[ActionName, Meta(description="What people say, for tags that are not named here.")] = "flag"
    other_output: Annotated[ActionName, Meta(description="What models say, for tags that are not named here.")] = "mask"
    replacement: Annotated[
        str,
        Meta(description="What `replace` puts in the place of words whose entry names nothing itself.", max_length=64),
    ] = "（已隐去）"


class PatternSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A regular expression that is looked for beside the word lists."""

    pattern: Annotated[
        str,
        Meta(
            description="In RE2's way of writing, without `^`, `$`, `\\A` and `\\z`; `(?i)` at its beginning for upper and lower case alike. The text is not folded for it. Needs the package google-re2.",
            min_length=1,
            max_length=1000,
        ),
    ]
    tag: Annotated[
        str,
        Meta(
            description="What kind of words it finds, for the policy and the metrics. Empty: the pattern's name.",
            pattern=r"^[\w.-]{0,64}$",
        ),
    ] = ""
    action: Annotated[
        Literal["", "pass", "flag", "mask", "replace", "hand_over", "block"],
        Meta(description="What it leads to, before what the policy says of its tag. Empty: what the policy says."),
    ] = ""
    direction: Annotated[
        Literal["both", "input", "output"],
        Meta(description="`input`: in what people say. `output`: in what models say."),
    ] = "both"
    replacement: Annotated[
        str, Meta(description="What `replace` puts in its place. Empty: the policy's.", max_length=64)
    ] = ""
    max_characters: Annotated[
        int,
        Meta(
            description="Characters of a match at the most; longer ones are not found. So many characters of a reply may have to wait.",
            ge=1,
            le=200,
        ),
    ] = 40


class FilterSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words that are looked for in what people say and in what models say."""

    lists: Annotated[
        tuple[str, ...],
        Meta(
            description="Word lists: files (`.txt`, `.csv`, `.json`), or folders of them. They may change while the server runs. Empty: no words are looked for."
        ),
    ] = ()
    reload_seconds: Annotated[float, Meta(description="Seconds between two looks whether a list changed.", gt=0)] = 5.0
    max_words: Annotated[
        int, Meta(description="Words of all lists together; more of them are refused.", ge=1, le=2000000)
    ] = 1000000
    single_characters: Annotated[
        bool, Meta(description="Whether a list may hold words of one character, which hit almost everything.")
    ] = False
    policies: Annotated[
        dict[str, PolicySettings],
        Meta(description="What words mean, by name; assistants choose one with `filter_policy`."),
    ] = field(default_factory=lambda: {"default": PolicySettings()})
    patterns: Annotated[
        dict[str, PatternSettings],
        Meta(
            description="Regular expressions by name, for every assistant that has a policy. Each is one more pass over every text.",
            max_length=100,
        ),
    ] = field(default_factory=dict)


class ModerationSettings(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A second opinion on what people and models say, from a service of the operator's over HTTP."""

    url: Annotated[
        str,
        Meta(
            description='Where `{"direction", "assistant", "text"}` is posted as JSON; the answer is `{"allow": true}`, or `{"allow": false, "tag": "…", "action": "block"}`. Empty: nobody is asked.'
        ),
    ] = ""
    api_key: Annotated[Secret, Meta(description="Sent as a bearer token, as `env:NAME` or `file:PATH`.")] = field(
        default_factory=lambda: Secret("")
    )
    plain_http: Annotated[
        bool, Meta(description="Allows an address beyond loopback without TLS. For a closed network only.")
    ] = False
    assistants: Annotated[
        tuple[str, ...], Meta(description="The assistants whose texts are sent there. Empty: all of them.")
    ] = ()
    input: Annotated[bool, Meta(description="Whether it is asked about what people say.")] = True
    output: Annotated[
        bool,
        Meta(
            description="Whether it is asked about what models say. A reply is then shown in windows, each as soon as it is approved, and no longer character by character."
        ),
    ] = True
    budget_seconds: Annotated[
        float, Meta(description="Seconds a question may take, waiting for a free place included.", gt=0, le=30)
    ] = 1.0
    when_unavailable: Annotated[
        Literal["allow", "block"],
        Meta(description="What a text is that got no answer in time, or none that can be read."),
    ] = "block"
    max_calls: Annotated[int, Meta(description="Questions at a time; others wait within their budget.", ge=1)] = 64
    text_characters: Annotated[
        int, Meta(description="Characters of one question at most; longer texts are asked about in parts.", ge=100)
    ] = 4000
    window_characters: Annotated[
        int,
        Meta(
            description="Characters of a reply that wait for the end of their sentence at the most. Then it is asked about without.",
            ge=10,
            le=2000,
        ),
    ] = 120
    least_characters: Annotated[
        int, Meta(description="Characters of a reply below which the end of a sentence is no reason to ask.", ge=1)
    ] = 12
    context_characters: Annotated[
        int,
        Meta(
            description="Characters before a window or part that are sent along, so that nothing hides at its edge.",
            ge=0,
        ),
    ] = 80


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
        default_factory=lambda: {
            "default": ModelSettings(
                protocol="scripted", pictures="inline", limits=ModelLimitSettings(requests_per_minute=0)
            )
        }
    )
    splits: Annotated[
        dict[str, SplitSettings], Meta(description="Models that share the calls, by the name under which they do.")
    ] = field(default_factory=dict)
    routing: RoutingSettings = RoutingSettings()
    limits: SharedLimitSettings = SharedLimitSettings()
    embeddings: Annotated[dict[str, EmbeddingSettings], Meta(description="Embedding models by name.")] = field(
        default_factory=dict
    )
    media: MediaSettings = MediaSettings()
    speech: SpeechSettings = SpeechSettings()
    filter: FilterSettings = FilterSettings()
    moderation: ModerationSettings = ModerationSettings()
    node_id: Annotated[
        str,
        Meta(
            description="This server's name where servers stand in front of one another, to notice circles: 1 to 64 characters of `[a-zA-Z0-9._-]`. Empty: a random one."
        ),
    ] = ""
