"""What belongs to a person and has no form of its own: names, birthdays and accounts, each behind a cue word only.

Names in running text cannot be told from other words by rules; an external recogniser can.
"""

import re
from typing import Final

from server.filter.pii.kinds import Finding, PiiKind
from server.filter.pii.rule import Cue, Rule

_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff"
_SURNAMES: Final = (
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏陶姜戚谢邹喻柏窦章苏潘葛范彭郎鲁韦马苗方俞任袁柳唐罗薛"
    "伍余顾孟黄穆萧尹姚邵汪毛戴宋熊纪舒屈项祝董梁杜阮蓝闵季贾路江童郭梅林钟徐邱骆高夏蔡田樊胡凌霍万卢莫房丁邓洪包石崔"
    "龚程邢裴陆荣翁甄段焦侯宁甘刘景龙叶白赖卓池乔翟谭温庄晏柴瞿连习艾廖耿文匡欧沙关丰游盛曾肖涂岳申易常武贺雷倪汤殷"
    "向辛牛涂冉覃闫史齐康简冷聂解车鞠古费楚"
)
_DOUBLE_SURNAMES: Final = "欧阳|司马|上官|诸葛|东方|皇甫|尉迟|公孙|慕容|令狐|宇文|长孙|司徒|夏侯|端木|南宫"
_NOT_IN_NAMES: Final = (
    "的了是在想要有我你他她请问来去到从和与跟或给被把这那哪也都就还又不没会能可以应该需先女士生经理总工"
    "师老师主任同学部已在做负责"
)
_GIVEN: Final = rf"(?:(?![{_NOT_IN_NAMES}])[{_HAN}])"

_NAME_CUE: Final = Cue(
    r"我(?:的名字)?(?:叫|是)|(?:姓名|名字|联系人|收[件货]人|寄件人|户名|持卡人|申请人|报案人|客户名?|患者|员工)"
    r"(?: ?[:=] ?|是|为|叫)",
    reach=16,
)


def _name(match: "re.Match[str]") -> Finding | None:
    return Finding(PiiKind.NAME, match.start(), match.end(), 0.6)


NAME: Final = Rule(
    PiiKind.NAME,
    rf"(?<=[叫是为:= ])(?:(?:{_DOUBLE_SURNAMES}){_GIVEN}{{1,2}}|[{_SURNAMES}]{_GIVEN}{{1,2}})",
    _name,
    tail=rf"(?<=[叫是为:= ])[{_HAN}]{{1,4}}",
    reach=4,
    may_begin=_NAME_CUE.before,
)

_BIRTHDAY_CUE: Final = Cue(
    "生日|出生日期|出生年月日?|出生[于在]|生于|birthday|birth ?date|date of birth|dob", r"(?:是|为)? ?[:=]? ?"
)


def _birthday(match: "re.Match[str]") -> Finding | None:
    return Finding(PiiKind.BIRTHDAY, match.start(), match.end(), 0.8)


BIRTHDAY: Final = Rule(
    PiiKind.BIRTHDAY,
    r"(?<!\d)(?:(?:19|20)\d\d ?[-/.年] ?[01]?\d(?: ?[-/.月] ?[0-3]?\d[日号]?|月)"
    r"|(?:19|20)\d{6}|[01]?\d月[0-3]?\d[日号])(?!\d)",
    _birthday,
    tail=r"(?<!\d)\d[\d /.年月日号-]{0,18}",
    reach=20,
    may_begin=_BIRTHDAY_CUE.before,
)

_WECHAT_CUE: Final = Cue(
    r"微信号码?(?:是|为)? ?:? ?|(?:微信|(?<![A-Za-z])(?:wechat|weixin|wx|vx))"
    r"(?: ?id)?(?:是|为| ?[:=] ?)|加(?:我|个)?微信 ?",
    reach=24,
)


def _wechat(match: "re.Match[str]") -> Finding | None:
    return Finding(PiiKind.WECHAT_ID, match.start(), match.end(), 0.8)


WECHAT_ID: Final = Rule(
    PiiKind.WECHAT_ID,
    r"(?<![A-Za-z0-9_])[A-Za-z][A-Za-z0-9_-]{5,29}(?![A-Za-z0-9_@.-])",
    _wechat,
    tail=r"(?<![A-Za-z0-9_])[A-Za-z][A-Za-z0-9_-]{0,30}",
    reach=31,
    may_begin=_WECHAT_CUE.before,
)

_QQ_CUE: Final = Cue(r"(?<![A-Za-z])(?:qq|扣扣|企鹅)(?:号码?|群)?", r"(?:是|为)? ?[:=]? ?", reach=16)


def _qq(match: "re.Match[str]") -> Finding | None:
    return Finding(PiiKind.QQ, match.start(), match.end(), 0.8)


QQ: Final = Rule(
    PiiKind.QQ,
    r"(?<!\d)[1-9]\d{4,10}(?![A-Za-z0-9@])",
    _qq,
    tail=r"(?<!\d)\d{1,12}",
    reach=12,
    may_begin=_QQ_CUE.before,
)
