"""How much is found of what people write: two sets of cases, each from an angle of its own."""

from collections import Counter

import pytest

from server.filter.pii.find import find_all, with_divisions
from tests.server.filter.pii.samples import cases

NEEDED = {"mobile": 0.98, "id_card": 0.98, "bank_card": 0.98, "email": 0.98, "address": 0.9}


@pytest.mark.parametrize("name", ["pii", "pii_own"])
def test_precision_and_recall(name: str) -> None:
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for case in cases(name):
        text = case["text"]
        found = Counter(
            (each.kind.value, text[each.start : each.end]) for each in with_divisions(find_all(text)).findings
        )
        wanted = Counter((span["type"], span["value"]) for span in case["spans"])
        for total, difference in ((right, found & wanted), (wrong, found - wanted), (missed, wanted - found)):
            total.update(kind for kind, _ in difference.elements())
    for kind, needed in NEEDED.items():
        assert right[kind] / (right[kind] + wrong[kind]) >= needed, f"precision of {kind}"
        assert right[kind] / (right[kind] + missed[kind]) >= needed, f"recall of {kind}"
    # What has no form of its own is found where a cue word speaks for it, and invents nothing.
    assert wrong.total() == 0
    assert missed.total() == 0
