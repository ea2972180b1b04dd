"""What can go wrong between WeCom and a client, as switches.

A switch has a probability, optionally a count after which it is off again, and where it
matters a duration. All draws come from one seeded generator, so a run can be repeated as
far as the network lets it.
"""

import random
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Door = Literal["callback", "rest", "socket"]


class Fault(msgspec.Struct, frozen=True):
    """A kind of accident."""

    name: str
    door: Door
    title: str
    """What the faults panel calls it."""
    effect: str
    """One sentence for the panel."""
    seconds: float | None = None
    """The duration when a switch names none; ``None`` where none plays a part."""


FAULTS: Final[Mapping[str, Fault]] = {
    fault.name: fault
    for fault in (
        Fault("callback_lost", "callback", "回调丢失", "这次投递没有到达应用，平台按超时重试。"),
        Fault("callback_answer_lost", "callback", "应答丢失", "应用已收到并应答，平台没有看到应答，于是重试。"),
        Fault("callback_duplicated", "callback", "重复投递", "应用已应答，平台仍再投递一次。"),
        Fault("callback_reordered", "callback", "乱序投递", "这条回调被压后，让后面的先到。", 0.5),
        Fault("callback_slow", "callback", "投递变慢", "请求体分两段到达，中间停顿。", 0.5),
        Fault("rest_5xx", "rest", "接口 5xx", "接口返回 HTTP 502，请求未被受理。"),
        Fault("rest_busy", "rest", "系统繁忙 -1", "接口返回 errcode -1，请求未被受理。"),
        Fault("rest_limited", "rest", "频率超限 45009", "接口返回 45009，请求未被受理。"),
        Fault("rest_slow", "rest", "接口变慢", "受理后过一会儿才应答。", 1.0),
        Fault("rest_cut_before", "rest", "受理前断线", "请求未被受理，连接直接断开。"),
        Fault("send_cut_after", "rest", "受理后断线", "消息已发给成员，但调用方只看到连接断开：重复消息由此而来。"),
        Fault("directory_busy", "rest", "通讯录繁忙 -1", "查询通讯录返回 errcode -1。"),
        Fault("directory_limited", "rest", "通讯录超频 45009", "查询通讯录返回 45009，需要等待一分钟。"),
        Fault("directory_hidden", "rest", "通讯录不可见 60011", "查询通讯录返回 60011：不在应用的可见范围内。"),
        Fault("token_expired", "rest", "令牌提前失效", "当前令牌作废，返回 42001 或 40014。"),
        Fault("media_slow", "rest", "下载如滴水", "文件一个字节一个字节地到达。", 0.2),
        Fault("media_cut", "rest", "下载中断", "文件传到一半，连接断开。"),
        Fault("media_wrong_key", "rest", "密钥不符", "机器人的文件用另一个密钥加密。"),
        Fault("media_redirect_private", "rest", "跳转内网", "机器人的文件地址跳转到内网地址。"),
        Fault("media_claim_huge", "rest", "声称 100 MB", "下载声称有 100 MB，并真的发送。"),
        Fault("kf_callback_lost", "callback", "客服回调丢失", "客服有新消息，但这次没有通知应用，也不重试。"),
        Fault("kf_empty_page", "rest", "客服空页", "sync_msg 返回空列表，同时 has_more 为 1。"),
        Fault("kf_send_fail", "rest", "客服下发失败", "接口返回成功，消息没有送达顾客，随后有 msg_send_fail 事件。"),
        Fault("ack_late", "socket", "回执迟到", "回复已受理，回执过一会儿才到。", 6.0),
        Fault("ack_lost", "socket", "回执丢失", "回复已受理，回执没有到达。"),
        Fault("frame_lost", "socket", "上行帧丢失", "客户端发出的帧没有到达平台。"),
        Fault("push_lost", "socket", "下行帧丢失", "平台推送的消息没有到达客户端，重连后再投递。"),
        Fault("push_duplicated", "socket", "重复推送", "同一条消息推送两次。"),
        Fault("push_reordered", "socket", "乱序推送", "这条推送被压后，让后面的先到。", 0.5),
        Fault("control_characters", "socket", "裸控制字符", "推送帧的字符串里带未转义的控制字符。"),
        Fault("server_ping", "socket", "平台心跳", "平台先发 ping,期待 pong。"),
        Fault("conflict", "socket", "版本冲突 6000", "回复被拒绝，需要稍后重试。"),
        Fault("socket_limited", "socket", "频率超限 45009", "回复被拒绝，需要稍后重试。"),
        Fault("card_refused", "socket", "卡片被拒 42045", "机器人发出的卡片不被接受。"),
        Fault("stream_expired", "socket", "流式过期 846608", "这条流式消息提前过期，不能再更新。"),
        Fault("subscription_lost", "socket", "订阅丢失 846609", "连接还在，订阅没了，也收不到消息。"),
        Fault("socket_cut", "socket", "连接中断", "长连接突然断开，没有告别。"),
        Fault("socket_cut_after", "socket", "受理后断线", "回复已受理并已展示，回执之前连接断开。"),
        Fault("kick", "socket", "被踢下线", "收到 disconnected_event 后连接被关闭。"),
        Fault("kick_half", "socket", "半开连接", "收到 disconnected_event，连接不关闭，心跳照常，不再有消息。"),
        Fault("silence", "socket", "静默", "连接还在，平台一段时间不收也不发。", 10.0),
    )
}


class Switch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one fault is set."""

    probability: Annotated[float, Meta(description="Chance at each occasion, 0 to 1.", ge=0, le=1)] = 1.0
    count: Annotated[int | None, Meta(description="How often at most; absent: without end.")] = None
    seconds: Annotated[float | None, Meta(description="Duration, for faults that have one.")] = None


class FaultUnknown(Exception):
    """No fault has this name."""


class Strike(msgspec.Struct, frozen=True):
    """A fault that happens now."""

    name: str
    seconds: float


class Faults:
    """The switches of one simulator."""

    def __init__(self, switches: Mapping[str, Switch] | None = None, *, seed: int | None = 0) -> None:
        """Raises :class:`FaultUnknown` for a name that is not in :data:`FAULTS`."""
        self._random = random.Random(seed)
        self._switches: dict[str, Switch] = {}
        self.struck: Counter[str] = Counter()
        for name, switch in (switches or {}).items():
            self.set(name, switch)

    def set(self, name: str, switch: Switch | None = None) -> None:
        """Turns a fault on; without a switch, at every occasion until :meth:`clear`."""
        if name not in FAULTS:
            raise FaultUnknown(name)
        switch = switch or Switch()
        if switch.probability <= 0 or (switch.count is not None and switch.count <= 0):
            self._switches.pop(name, None)
        else:
            self._switches[name] = switch

    def once(self, name: str, *, count: int = 1, seconds: float | None = None) -> None:
        """Turns a fault on for the next occasions."""
        self.set(name, Switch(count=count, seconds=seconds))

    def clear(self, name: str | None = None) -> None:
        """Turns one fault off, or all of them."""
        if name is None:
            self._switches.clear()
        else:
            self._switches.pop(name, None)

    @property
    def active(self) -> Mapping[str, Switch]:
        """What is on."""
        return dict(self._switches)

    def strike(self, name: str) -> Strike | None:
        """Whether the fault happens at this occasion; counts it when it does."""
        switch = self._switches.get(name)
        if switch is None or (switch.probability < 1 and self._random.random() >= switch.probability):
            return None
        if switch.count is not None:
            self.set(name, msgspec.structs.replace(switch, count=switch.count - 1))
        self.struck[name] += 1
        seconds = switch.seconds if switch.seconds is not None else FAULTS[name].seconds
        return Strike(name, seconds or 0.0)

    def draw(self, *choices: int) -> int:
        """One of the choices, from the same generator."""
        return self._random.choice(choices)
