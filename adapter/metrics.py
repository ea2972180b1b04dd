"""What the adapter counts. Every name begins with ``weconverse_adapter_``.

No label ever names a person or a conversation; accounts come from the settings, so the
number of series has a bound.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_ACK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_SEND_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Every measure of the adapter, registered once in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"weconverse_adapter_{name}", text, labels, registry=registry)

        self.callback_ack_seconds = Histogram(
            "weconverse_adapter_callback_ack_seconds",
            "Seconds from a callback's arrival to its acknowledgement.",
            buckets=_ACK_BUCKETS,
            registry=registry,
        )
        self.callback_rejects = counter(
            "callback_rejects_total", "Callbacks that were not acknowledged, by reason.", "reason"
        )
        self.messages = counter(
            "messages_total", "Messages of people, by door and by what became of them.", "door", "result"
        )
        self.media_fetches = counter(
            "media_fetches_total", "Attachments of messages, by what became of fetching them.", "result"
        )
        self.sends = counter("sends_total", "Messages to people, by door and result.", "door", "result")
        self.send_seconds = Histogram(
            "weconverse_adapter_send_seconds",
            "Seconds of one request that sends a message, token care included.",
            buckets=_SEND_BUCKETS,
            registry=registry,
        )
        self.token_refreshes = counter("token_refreshes_total", "Requests for an access token, by result.", "result")
        self.resend_suspect = counter(
            "resend_suspect_total", "Messages sent again although an earlier try may have arrived, by door.", "door"
        )
        self.deliveries = counter("deliveries_total", "Deliveries by door and outcome.", "door", "outcome")
        self.deliveries_open = Gauge(
            "weconverse_adapter_deliveries_open", "Deliveries under way, by door.", ("door",), registry=registry
        )
        self.attached = Gauge(
            "weconverse_adapter_attached",
            "Whether the account is attached to the service: 1 active, 0 not.",
            ("account",),
            registry=registry,
        )
        self.socket_state = Gauge(
            "weconverse_adapter_socket_state",
            "The long connection of a bot: 0 closed, 1 connecting, 2 subscribed.",
            ("account",),
            registry=registry,
        )
        self.socket_connects = counter(
            "socket_connects_total", "Attempts to open and subscribe a long connection, by result.", "account", "result"
        )
        self.socket_kicks = counter("socket_kicks_total", "How often another connection took a bot over.", "account")
        self.late_acks = counter("late_acks_total", "Frames acknowledged late or never, by which.", "result")
        self.waiting_messages = Gauge(
            "weconverse_adapter_waiting_messages",
            "Messages in memory that the service has not taken yet.",
            ("account",),
            registry=registry,
        )
        self.kf_pulls = counter(
            "kf_pulls_total",
            "Questions to customer service for what is new, by account and result.",
            "account",
            "result",
        )
        self.kf_send_failures = counter(
            "kf_send_failures_total",
            "Messages to customers that WeCom took and could not deliver, by its fail_type.",
            "fail_type",
        )
        self.kf_waiting = Gauge(
            "weconverse_adapter_kf_waiting",
            "Answers that wait until their customer writes again, because five messages were sent.",
            ("account",),
            registry=registry,
        )
        self.secret_rereads = counter(
            "secret_rereads_total", "Secrets that were found changed in their files, by what came of it.", "result"
        )
        self.access = counter(
            "access_total", "Decisions on who may use an account, by account and result.", "account", "result"
        )
        self.directory_reads = counter(
            "directory_reads_total", "Questions to WeCom's directory, by call and result.", "call", "result"
        )
        self.sources = counter(
            "sources_total",
            "Callbacks by where they came from: allowed, elsewhere, or before the list was known.",
            "result",
        )
        self.source_reads = counter("source_reads_total", "Readings of WeCom's list of addresses, by result.", "result")
        self.source_list_age = Gauge(
            "weconverse_adapter_source_list_age_seconds",
            "Seconds since WeCom's list of addresses was read; -1 without one.",
            registry=registry,
        )
