"""Kinds of personal data, and what a recogniser says of a place where it found some. Values."""

import enum
from typing import Final

import msgspec


class PiiKind(enum.Enum):
    """What something is. The values are those of the settings."""

    MOBILE = "mobile"
    ID_CARD = "id_card"
    BANK_CARD = "bank_card"
    EMAIL = "email"
    ADDRESS = "address"
    LANDLINE = "landline"
    PLATE = "plate"
    PASSPORT = "passport"
    PERMIT = "permit"
    WECHAT_ID = "wechat_id"
    QQ = "qq"
    NAME = "name"
    BIRTHDAY = "birthday"
    SECRET = "secret"  # noqa: S105 - the name of a kind
    IP = "ip"
    MAC = "mac"
    USCC = "uscc"
    OTHER = "other"
    """What an external recogniser finds and none of the others names."""

    @property
    def label(self) -> str:
        """What a model reads."""
        return _LABELS[self]


_LABELS: Final = {
    PiiKind.MOBILE: "手机号",
    PiiKind.ID_CARD: "身份证号",
    PiiKind.BANK_CARD: "银行卡号",
    PiiKind.EMAIL: "邮箱",
    PiiKind.ADDRESS: "地址",
    PiiKind.LANDLINE: "座机号",
    PiiKind.PLATE: "车牌号",
    PiiKind.PASSPORT: "护照号",
    PiiKind.PERMIT: "通行证号",
    PiiKind.WECHAT_ID: "微信号",
    PiiKind.QQ: "QQ号",
    PiiKind.NAME: "姓名",
    PiiKind.BIRTHDAY: "生日",
    PiiKind.SECRET: "密钥",
    PiiKind.IP: "IP地址",
    PiiKind.MAC: "MAC地址",
    PiiKind.USCC: "信用代码",
    PiiKind.OTHER: "敏感信息",
}


class Finding(msgspec.Struct, frozen=True):
    """A stretch of a text that is personal data. Positions are characters of that text."""

    kind: PiiKind
    start: int
    end: int
    confidence: float = 1.0
    """From 0 to 1: 1 where a checksum or a form of its own proves it, less where only a cue word speaks for it."""
