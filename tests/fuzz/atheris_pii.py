"""Coverage-guided fuzzing of personal data: `python -m tests.fuzz.atheris_pii [-max_total_time=60] [CORPUS]`.

Needs the packages of requirements-fuzz.lock. A finding is a crash, a stream that differs from
the whole, something shown that is masked in the whole, or a log line with a value left in it.
"""

import sys

import atheris

with atheris.instrument_imports(include=["server.filter"]):
    from server.filter.pii.find import EVERY_KIND, PiiStream, find_all, with_divisions
    from server.filter.pii.guard import mask_for_log
    from server.filter.pii.output import MaskingStream, masked
    from server.filter.pii.placeholders import Placeholders, Restorer, typed_names

_WORDS = (
    *(
        "139",
        "12345678",
        "+86",
        "身份证号",
        "110105",
        "19010203",
        "001X",
        "卡号",
        "6222",
        "@",
        "a.b",
        ".com",
        "密码是",
        "sk-",
    ),
    *(
        "北京市",
        "朝阳区",
        "路",
        "88号",
        "3单元",
        "[手机号1]",
        "［",
        "\\",
        "\u200b",
        "\u20e3",
        "\n",
        " ",
        "-",
        "一三",
        "转",
        "元",
        "://",
    ),
    *(
        "-----BEGIN PRIVATE KEY-----",
        "eyJ",
        "::",
        "192.168.",
        "京A",
        "我叫",
        "张三",
        "微信号",
        "护照",
        "生日",
        "1990年",
        "QQ",
    ),
)
NAMES = {"手机号1": "13912345678", "地址12": "x"}


def text_of(data: atheris.FuzzedDataProvider) -> str:
    parts = []
    for _ in range(data.ConsumeIntInRange(0, 24)):
        choice = data.ConsumeIntInRange(0, len(_WORDS) + 24)
        parts.append(_WORDS[choice] if choice < len(_WORDS) else data.ConsumeUnicode(4))
    return "".join(parts)


def test_one_input(raw: bytes) -> None:
    data = atheris.FuzzedDataProvider(raw)
    text = text_of(data)
    whole = find_all(text)
    expected, restored = masked(whole), Restorer(NAMES).feed(text + "\n")[:-1]
    stream, masking, restorer = PiiStream(), MaskingStream(EVERY_KIND), Restorer(NAMES)
    given = shown = back = ""
    found = []
    position = 0
    while position < len(text):
        piece = text[position : position + data.ConsumeIntInRange(1, 7)]
        position += len(piece)
        decided = stream.feed(piece)
        found += [(each.kind, each.start + len(given), each.end + len(given)) for each in decided.findings]
        given += decided.text
        shown += masking.feed(piece)
        back += restorer.feed(piece)
        if not expected.startswith(shown):
            raise AssertionError("something was shown too early")
    decided = stream.close()
    found += [(each.kind, each.start + len(given), each.end + len(given)) for each in decided.findings]
    if given + decided.text != text or found != [(each.kind, each.start, each.end) for each in whole.findings]:
        raise AssertionError("the stream differs from the whole")
    if shown + masking.close() != expected or back + restorer.close() != restored:
        raise AssertionError("what is shown differs from the whole")
    names = Placeholders([text])
    for finding, value in zip(*(lambda each: (each.findings, each.values))(with_divisions(whole)), strict=True):
        if typed_names(names.name(finding.kind, value, value)) & typed_names(text):
            raise AssertionError("a name that was typed is given to a value")
    mask_for_log(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
