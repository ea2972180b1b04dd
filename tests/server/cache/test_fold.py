"""Which questions share an answer; above all, which do not."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.cache.fold import fold


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("年假有几天", "年假有几天?"),
        ("年假有几天", "  年假有几天??? "),
        ("年假有几天", "年假有几天。"),
        ("VPN怎么连", "vpn怎么连"),
        ("VPN 怎么连?", "ＶＰＮ怎么连?"),
        ("请问,什么是OA系统?", "请问,什么是oa系统"),
        ("怎么 申请\t A4 纸", "怎么 申请 A4 纸"),
        ("我有 3 天假,怎么休", "我有3天假,怎么休?"),
        ("你好!", "你好"),
        ("Hello!", "hello"),
        ("What is a VPN?", "what is a VPN"),
        ("报销流程是什么?!", "报销流程是什么"),
        ("报销流程是什么!? 。", "报销流程是什么"),
        ("Excel怎么求和", "excel怎么求和"),
        ("cafe\u0301 在哪里", "café 在哪里"),
    ],
)
def test_the_same_question(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("可以报销吗", "不可以报销吗"),
        ("满1年几天", "满2年几天"),
        ("10⁵ 是多少", "105 是多少"),
        ("1½ 天怎么算", "11/2 天怎么算"),
        ("第①条是什么", "第1条是什么"),
        ("1 2 是什么", "12 是什么"),
        ("1.5 天", "15 天"),
        ("-5 度", "5 度"),
        ("计算 5!", "计算 5"),
        ("什么是 5!?", "什么是 5?"),
        ("明天放假?", "明天放假"),
        ("5 MB 等于几 Mb", "5 Mb 等于几 MB"),
        ("10MW 是几瓦", "10mW 是几瓦"),
        ("MW 是几瓦", "mW 是几瓦"),
        ("变量 Foo 怎么用", "变量 foo 怎么用"),
        ("python 里 True 怎么写", "python 里 true 怎么写"),
        ("WHO 是什么意思", "who 是什么意思"),
        ("大写 A 的 ABC", "大写 a 的 abc"),
        ("密码是 ABC 吗", "密码是 abc 吗"),
        ("`List` 是什么", "`list` 是什么"),
        ("print(A)", "print(a)"),
        ("grep -I 怎么用", "grep -i 怎么用"),
        ("/ETC/hosts 在哪", "/etc/hosts 在哪"),
        ("who runs it", "WHO runs it"),
        ("if x:\n  y\nz", "if x:\n  y\n  z"),
        ("Polish 和 polish 哪个对", "polish 和 polish 哪个对"),
        ("a_b 是什么", "a b 是什么"),
        ("北京 大学", "北京大学"),
        ("?", ""),
        ("C++ 怎么学", "C 怎么学"),
        ("50% 是多少", "50 是多少"),
        ("x>5 吗", "x<5 吗"),
    ],
)
def test_another_question(one: str, other: str) -> None:
    assert fold(one) != fold(other)


_questions = st.lists(
    st.sampled_from(
        [
            *("年假", "不", "没有", "VPN", "vpn", "Wifi", "WiFi", "MB", "mW", "5", "１２", " ", "  ", "\n"),
            *("?", "？", "!", "。", ".", ",", "`", "_", "吗", "什么", "大写", "Hello", "not", "No."),
            *("e\u0301", "ａ\u0301", "⁵", "½", "-", "(", ")", "/", "李"),
        ]
    ),
    max_size=10,
).map("".join)


@given(_questions | st.text(max_size=30))
@example("?!")
@example("ａ\u0301")
@example("VPN 。! ?")
def test_folding_twice_changes_nothing_more(question: str) -> None:
    assert fold(fold(question)) == fold(question)


_WIDTH = {wide: chr(wide - 0xFEE0) for wide in range(0xFF01, 0xFF5F)}


@given(_questions | st.text(max_size=30))
def test_nothing_goes_but_noise(question: str) -> None:
    """Letters, numbers and signs stay in their order; only white space, case and the end may differ."""

    def bones(text: str) -> str:
        flat = unicodedata.normalize("NFC", text.translate(_WIDTH))
        ascii_case = "".join(char.lower() if char.isascii() else char for char in flat)
        return "".join(ascii_case.split()).rstrip("。.!?｡")

    assert bones(fold(question)) == bones(question)


@given(_questions)
def test_numbers_and_their_borders_stay(question: str) -> None:
    def numbers(text: str) -> list[str]:
        return "".join(char if unicodedata.category(char)[0] == "N" else " " for char in text.translate(_WIDTH)).split()

    assert numbers(fold(question)) == numbers(question)


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.strip() != ""))
def test_no_question_folds_to_nothing(question: str) -> None:
    assert fold(question)
