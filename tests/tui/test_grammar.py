"""The command line's grammar and its completion, without any screen."""

from __future__ import annotations

import pytest

from engine import profile
from engine.errors import EngineError, ProfileError, UsageError
from engine.registry import STEPS
from tui import completion, grammar, says
from tui.grammar import Ask, Simple, Start


def started(line: str) -> profile.Profile:
    command = grammar.parse(line, "demo")
    assert isinstance(command, Start)
    return command.profile


def test_a_step_with_its_first_key_bare_or_named_is_the_same_profile() -> None:
    assert started("prune 0.6") == started("prune sparsity=0.6")
    made = started("prune 0.6 criterion=magnitude calibration.samples=4 seed=7")
    assert [step.use for step in made.step] == ["prune", "export"]
    assert (made.step[0].sparsity, made.step[0].criterion) == (0.6, "magnitude")
    assert (made.name, made.model.source, made.calibration.samples, made.seed) == ("prune", "demo", 4, 7)


def test_steps_follow_one_another_and_what_changes_nothing_is_not_exported() -> None:
    made = started("prune pattern=2:4 > recover epochs=1 > eval sst2,boolq rows=50")
    assert [step.use for step in made.step] == ["prune", "recover", "evaluate", "export"]
    assert (made.step[0].pattern, made.step[1].epochs) == ("2:4", 1)
    assert (made.step[2].tasks, made.step[2].rows) == (["sst2", "boolq"], 50)
    assert [step.use for step in started("eval sst2").step] == ["evaluate"]


def test_a_line_is_the_profile_that_a_file_with_the_same_keys_is() -> None:
    text = (
        'name = "prune"\n[model]\nsource = "demo"\n[[step]]\nuse = "prune"\nsparsity = 0.6\n[[step]]\nuse = "export"\n'
    )
    assert started("prune sparsity=0.6") == profile.parse(text, "file")


def test_lists_are_typed_with_commas() -> None:
    assert started("sensitivity ratios=0.3,0.5").step[0].ratios == [0.3, 0.5]
    assert started("distill student=0,2").step[0].student == [0, 2]
    assert started("distill fuse=1").step[0].fuse == [1.0]
    assert started("distill student=every-second-block").step[0].student == "every-second-block"
    with pytest.raises(ProfileError) as caught:
        started("sensitivity ratios=half")
    assert "valid list" in "".join(caught.value.lines())


def test_run_takes_a_profile_and_overrides() -> None:
    assert started("run demo step.0.sparsity=0.3").step[0].sparsity == 0.3
    command = grammar.parse("queue demo step.0.sparsity=0.3", "demo")
    assert command == Start(started("run demo step.0.sparsity=0.3"), queued=True)


def test_ask_keeps_its_text() -> None:
    assert grammar.parse('ask "Is this > that?"', "demo") == Ask("Is this > that?")
    assert grammar.parse("ask what is it tokens=20", "demo") == Ask("what is it", 20)


@pytest.mark.parametrize("word", sorted(grammar.OTHER.keys() - {"run", "queue", "ask"}))
def test_other_words_keep_their_argument(word: str) -> None:
    assert grammar.parse(f"{word} some thing", "demo") == Simple(word, "some thing")


@pytest.mark.parametrize(
    ("line", "error", "told"),
    [
        ("prnue 0.5", UsageError, "did you mean 'prune'"),
        ("", UsageError, "nothing to do"),
        ('ask "open', UsageError, "cannot read the line"),
        ("ask", UsageError, "ask needs a text"),
        ("prune 1.5", ProfileError, "sparsity: "),
        ("prune sparsty=0.5", ProfileError, "sparsty: unknown key"),
        ("prune criterion=wnada", ProfileError, "did you mean 'wanda'"),
        ("eval nothing", ProfileError, "unknown task 'nothing'"),
        ("recover 3", UsageError, "'3' is no key=value"),
        ("prune 0.5 > recovr", UsageError, "unknown step 'recovr'"),
        ("run", UsageError, "run needs a profile"),
        ("run nosuch", EngineError, "no such profile"),
    ],
)
def test_a_wrong_line_says_what_is_wrong_as_a_profile_would(line: str, error: type[EngineError], told: str) -> None:
    with pytest.raises(error) as caught:
        grammar.parse(line, "demo")
    assert told.lower() in "\n".join(caught.value.lines()).lower()


# Completion


def test_every_step_and_word_is_offered_first_with_help() -> None:
    offered = completion.complete("")
    assert {*STEPS, *grammar.OTHER, "eval"} == set(offered)
    assert all(offered.values())
    assert [name for name in (*STEPS, "eval") if not offered[name].endswith(".")] == [], "cut off within a sentence"


@pytest.mark.parametrize("use", list(STEPS))
def test_every_key_of_a_step_is_offered(use: str) -> None:
    offered = completion.complete(f"{use} ")
    assert {f"{key}=" for key in grammar.keys(use)} <= set(offered)


@pytest.mark.parametrize(
    ("line", "choice", "becomes"),
    [
        ("pru", "prune", "prune "),
        ("prune cri", "criterion=", "prune criterion="),
        ("prune criterion=sp", "criterion=sparsegpt", "prune criterion=sparsegpt "),
        ("prune scope=r", "scope=row", "prune scope=row "),
        ("prune compensate=f", "compensate=false", "prune compensate=false "),
        ("eval s", "sst2", "eval sst2 "),
        ("prune 0.5 > rec", "recover", "prune 0.5 > recover "),
        ("prune 0.5 > recover ep", "epochs=", "prune 0.5 > recover epochs="),
        ("run ed", "edge", "run edge "),
        ("model de", "demo", "model demo "),
        ("help pru", "prune", "help prune "),
        ("attach la", "last", "attach last "),
    ],
)
def test_a_word_goes_on(line: str, choice: str, becomes: str) -> None:
    assert choice in completion.complete(line)
    assert completion.completed(line, choice) == becomes


def test_a_word_of_help_is_a_command() -> None:
    assert says.text("help", "ask") == f"ask  {grammar.OTHER['ask']}"
    assert says.text("help", "eval").startswith("Measure")
    with pytest.raises(UsageError, match="'prnue' is no command"):
        says.text("help", "prnue")


def test_pieces_are_read_once_however_often_they_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    completion.complete("prune criterion=")
    monkeypatch.setattr("engine.registry.ast", None)
    assert completion.complete("prune criterion=")["criterion=wanda"]


def test_nothing_is_offered_where_nothing_is_known() -> None:
    assert completion.complete("ask something ") == {}
    assert completion.complete("prune nosuch=") == {}
