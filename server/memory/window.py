"""Which of the remembered rounds the model sees. Pure."""

from collections.abc import Sequence

from server.domain import Round
from server.tokens import estimate_message


def select_rounds(
    rounds: Sequence[Round], instructions: str, question: str, *, max_prompt_tokens: int
) -> tuple[Round, ...]:
    """The newest of ``rounds`` that fit beside instructions and question, oldest first.

    Older rounds are left out first, and whole: without gaps, since an answer to a
    question that is not there misleads. Instructions and question always stay, even if
    they alone exceed ``max_prompt_tokens``, which are counted by estimate.
    """
    if not rounds:
        return ()
    room = max_prompt_tokens - estimate_message(question)
    if instructions:
        room -= estimate_message(instructions)
    first = len(rounds)
    for past in reversed(rounds):
        room -= estimate_message(past.question) + estimate_message(past.answer)
        if room < 0:
            break
        first -= 1
    return tuple(rounds[first:])
