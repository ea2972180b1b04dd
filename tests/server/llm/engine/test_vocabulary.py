"""Tokens become the text that the tokeniser itself would write, however they come in."""

import codecs
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from server.llm.engine import token_pieces
from server.llm.engine.stop_strings import StopStrings
from server.llm.engine.token_pieces import NotPiecewise, vocabulary_of
from server.llm.engine.vocabulary import Detokenizer, Vocabulary, table
from tests.server.llm.tiny_tokenizer import byte_fallback, byte_level

KINDS = {"byte_level": byte_level(), "byte_fallback": byte_fallback()}
VOCABULARIES = {name: vocabulary_of(tokenizer) for name, tokenizer in KINDS.items()}

kinds = st.sampled_from(sorted(KINDS))


def cut(items: list[int], data: st.DataObject) -> list[list[int]]:
    places = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=8)))
    return [items[begin:end] for begin, end in zip([0, *places], [*places, len(items)], strict=True)]


@given(kinds, st.text(max_size=40))
def test_a_text_comes_back_as_the_tokeniser_writes_it(kind: str, text: str) -> None:
    ids = KINDS[kind].encode(text, add_special_tokens=False).ids
    assert Detokenizer(VOCABULARIES[kind]).feed(ids) == KINDS[kind].decode(ids)


@given(kinds, st.lists(st.integers(0, 400), max_size=30), st.data())
def test_every_split_of_every_sequence_of_tokens_gives_the_same_text(
    kind: str, ids: list[int], data: st.DataObject
) -> None:
    vocabulary = VOCABULARIES[kind]
    together = Detokenizer(vocabulary).feed(ids)
    for pieces in (cut(ids, data), [[each] for each in ids]):
        detokenizer = Detokenizer(vocabulary)
        parts = [detokenizer.feed(piece) for piece in pieces]
        assert "".join(parts) == together


@given(kinds, st.text(max_size=20))
def test_no_part_holds_half_a_character(kind: str, text: str) -> None:
    ids = KINDS[kind].encode(text, add_special_tokens=False).ids
    detokenizer = Detokenizer(VOCABULARIES[kind])
    assert all("\ufffd" not in detokenizer.feed([each]) for each in ids) or "\ufffd" in KINDS[kind].decode(ids)


@given(st.lists(st.integers(0, 333), max_size=20))
@example([169, 94])  # 0xED 0xA1: two bytes of a half of a surrogate pair
def test_random_bytes_are_replaced_as_the_tokeniser_does(ids: list[int]) -> None:
    # Both leave a sequence that has only begun to the one who comes next; at the end it is dropped here.
    expected = KINDS["byte_level"].decode(ids)
    found = Detokenizer(VOCABULARIES["byte_level"]).feed(ids)
    assert expected in (found, found + "\ufffd", found + "\ufffd\ufffd")
    # What was held back is told from what was lost by one more letter.
    ids = [*ids, *KINDS["byte_level"].encode("x", add_special_tokens=False).ids]
    assert Detokenizer(VOCABULARIES["byte_level"]).feed(ids) == KINDS["byte_level"].decode(ids)


def test_tokens_that_there_are_not_write_nothing() -> None:
    assert Detokenizer(table([b"a", b"b"], leads_with_space=False)).feed([1, 2, 7, 0, 4_000_000_000]) == "ba"


def test_special_tokens_write_nothing_and_added_ones_do() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("<|im_start|>a<think>b<|im_end|>", add_special_tokens=False).ids
    assert Detokenizer(VOCABULARIES["byte_level"]).feed(ids) == "a<think>b"


def test_the_first_space_is_left_out_once() -> None:
    vocabulary = table([b"", b" ", b" a"], leads_with_space=True)
    detokenizer = Detokenizer(vocabulary)
    assert [detokenizer.feed([each]) for each in (0, 2, 1, 2)] == ["", "a", " ", " a"]


def test_added_tokens_that_are_no_byte_names_are_written_as_they_are() -> None:
    tokenizer = Tokenizer.from_str(byte_level().to_str())
    tokenizer.add_tokens([AddedToken("【思考】", normalized=False), AddedToken("two words", normalized=False)])
    vocabulary = vocabulary_of(tokenizer)
    ids = tokenizer.encode("x【思考】two words", add_special_tokens=False).ids
    assert Detokenizer(vocabulary).feed(ids) == "x【思考】two words" == tokenizer.decode(ids)


@pytest.mark.parametrize("scheme", ["always", "never"])
def test_metaspace_tokenisers_can_be_used(scheme: str) -> None:
    vocabulary = {"<unk>": 0, "▁a": 1, "a": 2, "b": 3, "▁": 4, "▁b": 5}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "a"), ("▁", "b")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    found = vocabulary_of(tokenizer)
    for ids in ([1, 2, 5], [2, 4, 4, 3], [4, 1], [5, 5]):
        assert Detokenizer(found).feed(ids) == tokenizer.decode(ids)


def test_a_tokeniser_whose_tokens_depend_on_their_place_is_refused() -> None:
    vocabulary = {"<unk>": 0, "a</w>": 1, "b</w>": 2, "a": 3, "b": 4}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    with pytest.raises(NotPiecewise):
        vocabulary_of(tokenizer)


def test_a_token_that_writes_a_book_is_refused() -> None:
    tokenizer = Tokenizer.from_str(byte_level().to_str())
    tokenizer.add_tokens([AddedToken("x" * (token_pieces.MAX_PIECE_BYTES + 1), normalized=False)])
    with pytest.raises(NotPiecewise, match="may write"):
        vocabulary_of(tokenizer)


def test_an_empty_tokeniser_is_refused() -> None:
    with pytest.raises(NotPiecewise):
        vocabulary_of(Tokenizer(models.BPE()))


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=10), st.data())
def test_any_table_of_bytes_is_read_like_the_bytes(pieces: list[bytes], data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, len(pieces) - 1), max_size=20))
    vocabulary: Vocabulary = table(pieces, leads_with_space=False)
    detokenizer = Detokenizer(vocabulary)
    found = "".join(detokenizer.feed([each]) for each in ids)
    expected, _ = codecs.utf_8_decode(b"".join(pieces[each] for each in ids), "replace", False)
    assert found == expected


# --- Stop strings -------------------------------------------------------------------------


@given(
    st.lists(st.text("ab#", min_size=1, max_size=4), min_size=1, max_size=3),
    st.text("ab#", max_size=30),
    st.lists(st.integers(0, 30), max_size=8),
)
def test_a_text_ends_in_front_of_the_stop_string_that_is_complete_first(
    stops: list[str], text: str, places: list[int]
) -> None:
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = text[: min(ends)[1]] if ends else text
    some = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    for borders in (some, range(len(text) + 1)):
        found = StopStrings(stops)
        parts = [found.feed(text[begin:end]) for begin, end in pairwise(borders)]
        assert found.hit is bool(ends)
        assert "".join(parts) + found.close() == expected


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert StopStrings(["", ""]).feed("abc") == "abc"
