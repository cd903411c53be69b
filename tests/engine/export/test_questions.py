"""Task rows for exported files: another runtime's log-likelihoods amount to what the scorer finds, chosen prompts included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import save
from fixtures.moods import run_maker
from fixtures.prompting import at_work, toy
from fixtures.workspaces import logits

from engine.data.options import Scores
from engine.data.tasks import Generation
from engine.evaluation.measure import Measurement
from engine.export import questions
from engine.export.options import ExportOptions
from engine.export.questions import Question
from engine.export.runtime import child
from engine.export.runtime.spec import Answer
from engine.prompts import pool, soft
from engine.registry import FORMATS
from engine.subject import Subject
from engine.worker import execute
from engine.workspace import Workspace

TEXTS = (" not at all", " yes, in all cases")  # of several tokens each


class Torch:
    """The workspace's model as a runtime has one."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def logits(self, ids: list[int]) -> Any:
        return logits(self.subject, torch.tensor([ids]))[0].numpy()

    def write(self, ids: list[int], count: int, ends: set[int]) -> list[int]:
        out: list[int] = []
        while len(out) < count and not ends.intersection(out):
            out.append(int(self.logits([*ids, *out])[-1].argmax()))
        return out


def space_of(folder: Path, *, texts: bool, scores: Scores = "sum") -> Workspace:
    task = replace(toy(), scores=scores)
    if texts:
        task = replace(task, labels={}, test=[replace(row, choices=TEXTS) for row in task.test])
    space = at_work(folder / "run", task=task)
    evaluate = space.profile.evaluate.model_copy(update={"tasks": ["toy"]})
    space.profile = space.profile.model_copy(update={"evaluate": evaluate})
    return space


@pytest.mark.parametrize(
    ("texts", "scores"), [(False, "sum"), (True, "sum"), (True, "norm"), (False, "pmi"), (True, "pmi")]
)
def test_a_runtime_s_answers_are_the_scorer_s(texts: bool, scores: Scores, tmp_path: Path) -> None:
    space = space_of(tmp_path, texts=texts, scores=scores)
    posed = questions.posed(space, ExportOptions(use="export", rows=25), FORMATS.load("onnx_fp32").FORMAT)
    assert [len(question.rows) for question in posed] == [25]
    scored = questions.sequences(space, posed)
    found = [child.likelihoods(Torch(space.subject), *asked) for asked in questions.as_asked(scored)]
    questions.answered(space, posed, scored, Answer(0.0, 0, likelihoods=found), "exported")
    Measurement(space, space.subject, space.profile.evaluate.model_copy(update={"rows": 25}), "dense").task("toy")
    theirs, mine = space.state.metrics["exported"], space.state.metrics["dense"]
    assert {name: metric.value for name, metric in theirs.items()} == {name: m.value for name, m in mine.items()}
    assert "accuracy:toy" in theirs


@pytest.mark.parametrize("stop", ["\n", "", "an"], ids=["new line", "end of text", "inside a token"])
def test_a_runtime_s_free_answers_are_the_model_s(stop: str, tmp_path: Path) -> None:
    space = space_of(tmp_path, texts=False)
    task = replace(toy(), labels={}, metric="chrf", generation=Generation(7, stop))
    space._tasks["toy"] = task
    posed = questions.posed(space, ExportOptions(use="export", rows=25), FORMATS.load("onnx_fp32").FORMAT)
    begun = questions.sequences(space, posed)
    assert not questions.as_asked(begun)
    ((texts, count, ends),) = questions.as_continued(space.subject, posed, begun)
    runner = Torch(space.subject)
    written = [runner.write(ids, count, set(ends)) for ids in texts]
    if stop == "an":
        assert min(map(len, written)) < max(map(len, written)) == 7
    questions.answered(space, posed, begun, Answer(0.0, 0, written=[written]), "exported")
    Measurement(space, space.subject, space.profile.evaluate.model_copy(update={"rows": 25}), "dense").task("toy")
    theirs, mine = space.state.metrics["exported"]["chrf:toy"], space.state.metrics["dense"]["chrf:toy"]
    assert (theirs.value, theirs.n) == (mine.value, 25)


def test_log_likelihoods_are_those_of_the_tokens_at_the_end() -> None:
    given = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Fixed:
        def logits(self, ids: list[int]) -> Any:
            return given[: len(ids)].numpy()

    logs = given.log_softmax(1)
    assert child.likelihoods(Fixed(), [0] * 5, [[3], [6]]) == pytest.approx(logs[4, [3, 6]].tolist())
    assert child.likelihoods(Fixed(), [0] * 5, [[1, 2, 4]]) == pytest.approx(
        [float(logs[2, 1] + logs[3, 2] + logs[4, 4])]
    )


def test_virtual_tokens_are_not_asked_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(tmp_path, texts=False)
    learned = replace(pool.plain(toy()), name="learned", soft=soft.beginning("soft", space.subject, [5, 6]))
    question = Question(toy(), learned, toy().test, "none", torch.zeros(2))
    monkeypatch.setattr(questions, "chosen", lambda *_: [question])
    posed = questions.posed(space, ExportOptions(use="export"), FORMATS.load("gguf_f16").FORMAT)
    assert [found.prompt.soft for found in posed] == [None]
    assert any("no room for virtual tokens" in log.message for log in space.state.log)


def test_a_run_tests_the_chosen_prompt_on_every_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    choose = '[[step]]\nuse = "select_prompt"\ntask = "mood"\ncandidates = ["Be fair."]\ncalibration = "batch"\n'
    write = f"""[task.said]\ntest = "file:{tmp_path}/mood.jsonl"\ntemplate = "Review: {{text}}\\nGood?"
answer_column = "text"\nmetric = "chrf"\nmax_new_tokens = 6\n
[[step]]\nuse = "select_prompt"\ntask = "said"\ncandidates = ["Say it."]\n"""
    exports = [f'[[step]]\nuse = "export"\nformat = "{name}"\n' for name in ("safetensors", "onnx_fp32")]
    make = run_maker(tmp_path)
    save("llama", tmp_path / "model", hidden_size=64, intermediate_size=96)  # heads as wide as onnxruntime asks for
    run = make('[[step]]\nuse = "prune"\n', choose, write, *exports)
    assert execute(run) == 0, run.state().failure
    state = run.state()
    scores = state.candidates[state.steps[1].summary["winner"]].scores
    memory = scores["pruned", "test", "batch"]
    answers = state.candidates[state.steps[2].summary["winner"]].scores
    for name in ("safetensors", "onnx_fp32"):
        said = answers[f"exported {name}", "test", "none"]
        assert said.accuracy == pytest.approx(answers["pruned", "test", "none"].accuracy)
        assert (said.metric, said.accuracy > 0) == ("chrf", True)
        file = scores[f"exported {name}", "test", "batch"]
        assert (file.n, file.accuracy, file.metric) == (memory.n, memory.accuracy, memory.metric)
        assert file.margin == pytest.approx(memory.margin, abs=1e-4)
        assert f"| exported {name} + best prompt" in (run.path / "report.md").read_text()
