"""What is left of the local model's answers, and what requests show."""

from __future__ import annotations

import pytest
from fixtures.prompting import toy

from engine.prompts import requests
from engine.prompts.requests import Answer

READ = {
    "Decide whether it is true.": "Decide whether it is true.",
    '"Decide whether it is true."': "Decide whether it is true.",
    "Sure! Here is the new instruction:\n\nDecide whether it is true.\nIt works because": "Decide whether it is true.",
    "Instruction: Decide whether it is true.": "Decide whether it is true.",
    "The new instruction: **Decide whether it is true.**": "Decide whether it is true.",
    "Rewrite the instruction: Decide whether it is true.": "Decide whether it is true.",
    "The two instructions should be mixed.": None,
    "1. Decide whether it is true.\n2. Say yes.": "Decide whether it is true.",
    "Decide whether it is true. Then answer with": "Decide whether it is true.",
    "decide whether it is true": "decide whether it is true",
    "": None,
    "Yes": None,
    "word " * 80: None,
}


@pytest.mark.parametrize(("answer", "expected"), READ.items(), ids=range(len(READ)))
def test_answers_become_one_short_instruction_or_nothing(answer: str, expected: str | None) -> None:
    assert requests.instruction(Answer(answer, ended=False)) == expected


def test_an_answer_that_ended_by_itself_is_not_cut() -> None:
    whole = "Decide whether it is true. Then answer with yes or no"
    assert requests.instruction(Answer(whole, ended=True)) == whole
    assert requests.instruction(Answer(f"{whole}\n\nIt works because", ended=False)) == whole, "the line has ended"
    assert requests.instruction(Answer(whole, ended=False)) == "Decide whether it is true."


def test_requests_show_rows_with_their_answers() -> None:
    task = toy()
    shown = task.train[:3]
    for request in (requests.induction(task, shown), requests.correction(task, "Say it.", shown)):
        for row in shown:
            assert f"Statement: {row.text}\nAnswer:{row.choices[row.gold]}" in request
        assert "The answers are: no, yes." in request


def test_the_best_instruction_stands_last() -> None:
    text = requests.succession(toy(), [("good", 0.9), ("bad", 0.3), ("fair", 0.5)])
    assert text.index("30% right: bad") < text.index("50% right: fair") < text.index("90% right: good")
