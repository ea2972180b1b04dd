"""Kinds of personal data, and what a recogniser says of a place where it found some. Values."""

import enum

import msgspec


class PiiKind(enum.Enum):
    """What something is. The values are those of the settings; ``label`` is what a model reads."""

    MOBILE = "mobile", "手机号"
    ID_CARD = "id_card", "身份证号"
    BANK_CARD = "bank_card", "银行卡号"
    EMAIL = "email", "邮箱"
    ADDRESS = "address", "地址"
    LANDLINE = "landline", "座机号"
    PLATE = "plate", "车牌号"
    PASSPORT = "passport", "护照号"
    PERMIT = "permit", "通行证号"
    WECHAT_ID = "wechat_id", "微信号"
    QQ = "qq", "QQ号"
    NAME = "name", "姓名"
    BIRTHDAY = "birthday", "生日"
    SECRET = "secret", "密钥"
    IP = "ip", "IP地址"
    MAC = "mac", "MAC地址"
    USCC = "uscc", "信用代码"
    OTHER = "other", "敏感信息"
    """What an external recogniser finds and none of the others names."""

    label: str

    def __new__(cls, value: str, label: str) -> "PiiKind":
        kind = object.__new__(cls)
        kind._value_ = value
        kind.label = label
        return kind


class Finding(msgspec.Struct, frozen=True):
    """A stretch of a text that is personal data. Positions are characters of that text."""

    kind: PiiKind
    start: int
    end: int
    confidence: float = 1.0
    """From 0 to 1: 1 where a checksum or a form of its own proves it, less where only a cue word speaks for it."""
    shown: int = 0
    """Characters from the start that a mask leaves as they are: the province and city of an address."""
