from hypothesis import given
from hypothesis import strategies as st

from server.domain import Round
from server.memory.window import select_rounds
from server.tokens import estimate_message

ROUNDS = tuple(Round(f"问题{place}", f"回答{place}", float(place)) for place in range(5))
COST = estimate_message("问题0") + estimate_message("回答0")


def test_all_that_fits() -> None:
    assert select_rounds(ROUNDS, "简洁", "再问", max_prompt_tokens=6000) == ROUNDS
    assert select_rounds((), "简洁", "再问", max_prompt_tokens=6000) == ()


def test_older_rounds_go_first() -> None:
    fixed = estimate_message("简洁") + estimate_message("再问")
    for kept in range(6):
        room = fixed + kept * COST
        expected = ROUNDS[len(ROUNDS) - kept :]
        assert select_rounds(ROUNDS, "简洁", "再问", max_prompt_tokens=room) == expected
        if kept:
            assert select_rounds(ROUNDS, "简洁", "再问", max_prompt_tokens=room - 1) == expected[1:]


def test_a_question_may_fill_the_prompt_alone() -> None:
    assert select_rounds(ROUNDS, "简洁", "问" * 10_000, max_prompt_tokens=64) == ()


def test_no_gaps() -> None:
    rounds = (Round("短", "短", 1), Round("长" * 1000, "长", 2), Round("短", "短", 3))
    assert select_rounds(rounds, "", "问", max_prompt_tokens=100) == rounds[2:]


@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), max_size=8), st.integers(0, 200))
def test_what_is_kept_is_the_end_and_fits(texts: list[tuple[str, str]], room: int) -> None:
    rounds = tuple(Round(question, answer, 0.0) for question, answer in texts)
    kept = select_rounds(rounds, "", "问", max_prompt_tokens=room)
    assert kept == rounds[len(rounds) - len(kept) :]
    total = estimate_message("问") + sum(estimate_message(r.question) + estimate_message(r.answer) for r in kept)
    assert total <= room or not kept
