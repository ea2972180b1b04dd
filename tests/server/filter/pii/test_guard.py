"""What the model reads, what the person reads, and what the log says."""

import pytest
from hypothesis import given, settings

from server.budget import Budget
from server.filter.pii.external import ExternalRecogniser, RecogniserFailed
from server.filter.pii.find import EVERY_KIND, find_all
from server.filter.pii.guard import REMEMBERED_TEXTS, Guarded, PiiGuard, mask_for_log
from server.filter.pii.kinds import Finding, PiiKind
from server.settings import PiiRecogniserSettings, PiiSettings
from tests.server.filter.pii.test_stream import texts

QUESTION = "我的手机是139 1234 5678，寄到上海市浦东新区样例路88弄6号401室"


class Names:
    """Finds one name, or fails."""

    def __init__(self, name: str = "", failure: RecogniserFailed | None = None) -> None:
        self.asked: list[str] = []
        self._name = name
        self._failure = failure

    async def find(self, text: str, budget: Budget) -> tuple[Finding, ...]:
        self.asked.append(text)
        if self._failure is not None:
            raise self._failure
        start = text.find(self._name)
        return (Finding(PiiKind.NAME, start, start + len(self._name), 0.9),) if start >= 0 else ()


async def guarded(settings: PiiSettings, *said: str, external: ExternalRecogniser | None = None) -> Guarded:
    return await PiiGuard(settings, external).guard(said, Budget(5))


def reply(guard: Guarded, text: str, size: int = 1) -> str:
    stream = guard.reply()
    return "".join(stream.feed(text[at : at + size]) for at in range(0, len(text), size)) + stream.close()


async def test_off_changes_nothing() -> None:
    guard = await guarded(PiiSettings(), QUESTION)
    assert guard.texts == (QUESTION,)
    assert guard.hint == ""
    assert reply(guard, "[手机号1] 13912345678") == "[手机号1] 13912345678"


async def test_masks_towards_the_model() -> None:
    guard = await guarded(PiiSettings(mode="mask"), QUESTION)
    assert guard.texts == ("我的手机是139＊＊＊＊5678，寄到上海市浦东新区＊＊＊＊",)
    assert reply(guard, "已发到139＊＊＊＊5678") == "已发到139＊＊＊＊5678"


async def test_names_towards_the_model_and_values_towards_the_person() -> None:
    guard = await guarded(PiiSettings(mode="placeholders"), "助手", "找13812345678", "好", QUESTION, "13912345678对吗")
    assert guard.texts == ("助手", "找[手机号1]", "好", "我的手机是[手机号2]，寄到[地址1]", "[手机号2]对吗")
    assert "[手机号1]" in guard.hint
    for size in (1, 2, 3, 50):
        said = reply(guard, "您说的是[手机号2]和［手机号１］，送到[地址1]，不是[手机号3]", size)
        assert said == "您说的是139 1234 5678和13812345678，送到上海市浦东新区样例路88弄6号401室，不是[手机号3]"


async def test_a_name_that_was_typed_stays_what_it_is() -> None:
    guard = await guarded(PiiSettings(mode="placeholders"), "13812345678", "告诉我[手机号1]")
    assert guard.texts == ("[手机号2]", "告诉我[手机号1]")
    assert reply(guard, "[手机号1]，[手机号2]") == "[手机号1]，13812345678"


async def test_what_a_model_makes_up_is_masked_and_what_it_was_told_is_not() -> None:
    guard = await guarded(PiiSettings(mode="placeholders", mask_output=True), QUESTION)
    said = "经理的电话是13712345678，您的是[手机号1]，即13912345678，地址样例路88弄6号401室"
    for size in (1, 4, 100):
        assert reply(guard, said, size) == (
            "经理的电话是137＊＊＊＊5678，您的是139 1234 5678，即13912345678，地址样例路88弄6号401室"
        )
    alone = await guarded(PiiSettings(mask_output=True), QUESTION)
    assert reply(alone, "13712345678和13912345678") == "137＊＊＊＊5678和13912345678"


async def test_only_the_kinds_of_the_settings() -> None:
    guard = await guarded(PiiSettings(mode="mask", kinds=("email",)), "13912345678 a@example.com 192.168.1.10")
    assert guard.texts == ("13912345678 a＊＊＊@example.com 192.168.1.10",)


async def test_an_external_recogniser_adds_what_ours_do_not_find() -> None:
    names = Names("王小明")
    guard = await guarded(PiiSettings(mode="placeholders"), "通知王小明，13912345678", external=names)
    assert guard.texts == ("通知[姓名1]，[手机号1]",)
    assert reply(guard, "已通知[姓名1]") == "已通知王小明"
    covering = await guarded(PiiSettings(mode="mask"), "号码13912345678", external=Names("号码13912345678"))
    assert covering.texts == ("号码139＊＊＊＊5678",)


async def test_texts_that_come_again_are_not_asked_about_again() -> None:
    names = Names("王小明")
    guard = PiiGuard(PiiSettings(mode="mask"), names)
    await guard.guard(["一", "二", ""], Budget(5))
    await guard.guard(["一", "二", "三"], Budget(5))
    assert names.asked == ["一", "二", "三"]
    await guard.guard([f"第{number}句" for number in range(REMEMBERED_TEXTS)], Budget(5))
    await guard.guard(["一"], Budget(5))
    assert names.asked[-1] == "一"


async def test_without_an_answer_the_settings_decide() -> None:
    failing = Names(failure=RecogniserFailed("slow"))
    open_ = PiiSettings(mode="mask", recogniser=PiiRecogniserSettings(when_unavailable="allow"))
    assert (await guarded(open_, "13912345678", external=failing)).texts == ("139＊＊＊＊5678",)
    with pytest.raises(RecogniserFailed, match="slow"):
        await guarded(PiiSettings(mode="mask"), "13912345678", external=failing)


def test_the_log_is_always_masked() -> None:
    text = (
        "电话139 1234 5678 证件11010519010203001X 卡4111 1111 1111 1111 邮箱ab.c@x.com "
        "住上海市浦东新区样例路88弄6号401室 "
        "密码是Abc12345 服务器192.168.1.10 2001:db8::1 车牌京A12345 0755-83456789 我叫张三"
    )
    assert mask_for_log(text) == (
        "电话139＊＊＊＊5678 证件110＊＊＊＊＊＊＊＊＊＊＊＊＊1X 卡4111＊＊＊＊＊＊＊＊1111 邮箱a＊＊＊@x.com "
        "住上海市浦东新区＊＊＊＊ "
        "密码是＊＊＊＊ 服务器192.168.＊.＊ 2001:db8:＊:＊ 车牌京A＊＊＊＊5 0755＊＊＊＊＊＊89 我叫张＊"
    )


@settings(deadline=None)
@given(texts)
def test_no_value_is_left_in_the_log(text: str) -> None:
    logged = mask_for_log(text)
    assert find_all(logged, EVERY_KIND - {PiiKind.USCC}).findings == ()
    assert mask_for_log(logged) == logged
