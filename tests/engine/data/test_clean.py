"""Cleaning: near duplicates equal the brute-force answer, the counts add up, cleaning twice changes nothing."""

from __future__ import annotations

import random
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.clean import SHINGLE, WORD, CleanCounts, clean, near_duplicates, select
from engine.data.options import CleanOptions

OFF = CleanOptions(unicode="none", whitespace=False, duplicates=False, min_chars=0)

words = st.lists(st.sampled_from("abc"), max_size=14).map(" ".join)


def brute_force(documents: list[str], threshold: float) -> list[int]:
    """The definition, pair by pair."""

    def shingles(document: str) -> set[tuple[str, ...]]:
        found = WORD.findall(document.casefold())
        width = min(SHINGLE, len(found))
        return {tuple(found[i : i + width]) for i in range(len(found) - width + 1)} if found else set()

    sets, dropped = [shingles(document) for document in documents], []
    for i, a in enumerate(sets):
        kept = (sets[j] for j in range(i) if j not in dropped)
        if any(a and b and len(a & b) / len(a | b) >= threshold for b in kept):
            dropped.append(i)
    return dropped


@given(st.lists(words, max_size=12), st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.9, 1.0]))
def test_near_duplicates_equal_brute_force(documents: list[str], threshold: float) -> None:
    assert near_duplicates(documents, threshold) == brute_force(documents, threshold)


def test_near_duplicates_ignore_case_and_punctuation() -> None:
    documents = [
        "The quick brown fox, jumps over it.",
        "the quick BROWN fox jumps over it",
        "!!!",
        "???",
        "another one",
    ]
    assert near_duplicates(documents, 1.0) == [1]


@given(st.lists(st.text("ab \n\té", max_size=12), max_size=12), st.booleans(), st.sampled_from([None, 0.5]))
def test_counts_add_up_and_a_second_cleaning_changes_nothing(
    documents: list[str], duplicates: bool, near: float | None
) -> None:
    options = CleanOptions(duplicates=duplicates, near_duplicates=near, min_chars=2, max_chars=9)
    kept, counts = clean(documents, options)
    assert counts.kept + counts.exact + counts.near + counts.short + counts.long == len(documents)
    assert counts.kept == len(kept)
    assert all(2 <= len(document) <= 9 for document in kept)
    again, second = clean(kept, options)
    assert again == kept
    assert second == CleanCounts(len(kept), 0, 0, 0, 0, 0)


@given(st.lists(st.text(max_size=10), max_size=10))
def test_everything_off_keeps_everything(documents: list[str]) -> None:
    assert clean(documents, OFF) == (documents, CleanCounts(len(documents), 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t b  ", "a b"),
        ("a\nb", "a\nb"),
        ("a \n b", "a\nb"),
        ("a\n \n\n\t b", "a\n\nb"),
        ("cafe\u0301\u00a0x", "café x"),
        ("a\r\nb", "a\nb"),
    ],
)
def test_blanks_and_unicode(text: str, expected: str) -> None:
    assert clean([text], CleanOptions())[0] == [expected]


def test_nfkc_makes_equal_what_looks_equal() -> None:
    documents = ["ﬁne ①", "fine 1"]
    assert clean(documents, CleanOptions(unicode="NFKC"))[0] == ["fine 1"]
    assert len(clean(documents, CleanOptions(unicode="NFC"))[0]) == 2
    assert unicodedata.normalize("NFKC", documents[0]) == documents[1]


def test_the_first_of_equals_stays_where_it_was() -> None:
    kept, counts = select(["x", "b", "a", "b ", "a"], CleanOptions(min_chars=0))
    assert kept == {0: "x", 1: "b", 2: "a"}
    assert str(counts) == "3 documents kept (0 changed); dropped 2 exact and 0 near duplicates, 0 too short, 0 too long"


def test_twenty_thousand_documents_with_shared_boilerplate() -> None:
    generator = random.Random(0)
    vocabulary = [f"w{i}" for i in range(5000)]
    boilerplate = " ".join(generator.choices(vocabulary, k=10))
    documents = [boilerplate + " " + " ".join(generator.choices(vocabulary, k=40)) for _ in range(10_000)]
    copies = [document + " tail" for document in documents]
    began = time.process_time()
    _, counts = clean(documents + copies, CleanOptions(near_duplicates=0.8))
    assert (counts.kept, counts.near) == (10_000, 10_000)
    assert time.process_time() - began < 30
