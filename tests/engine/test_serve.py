"""The resident worker: what it writes is greedy decoding, in turns, and an error is an answer too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.models import save, subject

from engine import memory
from engine.errors import UsageError
from engine.serve import Server, answering
from tui.resident import Resident


def told(folder: Path, text: str = "A good", tokens: int = 12) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    Server(said.append).answer({"text": text, "tokens": tokens, "models": [str(folder)]})
    return said


def test_the_pieces_are_what_plain_greedy_generation_writes() -> None:
    model = subject("llama")
    ids = model.tokenizer("A good", return_tensors="pt").input_ids
    expected = model.module.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    *pieces, done = answering(model, "A good", 12)
    text = model.tokenizer.decode(expected, skip_special_tokens=True)
    assert "".join(line["piece"] for line in pieces) == text.rstrip("\N{REPLACEMENT CHARACTER}")
    assert done["tokens"] == len(pieces) <= 12


def test_an_answer_ends_where_the_model_ends_it() -> None:
    model = subject("llama")
    first = next(iter(answering(model, "A", 3)))
    model.module.generation_config.eos_token_id = int(
        model.module(model.tokenizer("A", return_tensors="pt").input_ids).logits[0, -1].argmax()
    )
    (done,) = answering(model, "A", 3)
    assert (first.keys(), done["tokens"]) == ({"piece"}, 0)


def test_an_empty_text_begins_with_what_stands_before_all() -> None:
    assert list(answering(subject("llama"), "", 2))[-1]["tokens"] <= 2


def test_models_of_this_machine_are_loaded_without_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    told(save("llama", tmp_path / "a"), tokens=1)
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_two_models_answer_in_turns_and_are_loaded_once(tmp_path: Path) -> None:
    one, two = (str(save("llama", tmp_path / name, seed)) for seed, name in enumerate("ab"))
    said: list[dict[str, Any]] = []
    server = Server(said.append)
    request = {"text": "A good", "tokens": 4, "models": [one, two]}
    server.answer(request)
    order = [line["model"] for line in said if "piece" in line]
    assert order[:4] == [one, two, one, two]
    assert said[-1] == {"end": True}
    assert sum("loading" in line for line in said) == 2
    server.answer(request)
    assert sum("loading" in line for line in said) == 2


def test_a_model_that_is_not_there_is_an_error_and_the_end(tmp_path: Path) -> None:
    error, end = told(tmp_path / "nothing")[-2:]
    assert str(tmp_path) in error["where"]
    assert end == {"end": True}


def test_two_models_stay_and_the_oldest_goes(tmp_path: Path) -> None:
    folders = [str(save("llama", tmp_path / name, seed)) for seed, name in enumerate("abc")]
    said: list[dict[str, Any]] = []
    server = Server(said.append)
    for source in (*folders, folders[2], folders[1], folders[0]):
        server.answer({"text": "A", "tokens": 1, "models": [source]})
    assert [line["model"] for line in said if "loading" in line] == [*folders, folders[0]]
    assert [options.source for options in server._models] == [folders[2], folders[0]]


def test_models_answer_in_the_number_format_of_the_run(tmp_path: Path) -> None:
    server = Server(lambda line: None)
    server.answer({"text": "A", "tokens": 1, "models": [str(save("llama", tmp_path / "a"))], "dtype": "bfloat16"})
    (subject_,) = server._models.values()
    assert subject_.dtype == torch.bfloat16


def test_a_model_that_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "fits", lambda weights, device: False)
    error, end = told(save("llama", tmp_path / "a"))[-2:]
    assert error["error"] == "not enough memory for the model"
    assert end == {"end": True}


def test_an_answer_ends_with_the_models_positions_and_a_longer_text_is_refused() -> None:
    model = subject("llama")
    ids = len(model.tokenizer("A good").input_ids)
    model.module.config.max_position_embeddings = ids + 3
    assert list(answering(model, "A good", 12))[-1]["tokens"] == 3
    model.module.config.max_position_embeddings = ids
    with pytest.raises(UsageError, match=f"the text has {ids} tokens, and the model reads {ids}"):
        list(answering(model, "A good", 12))


def test_a_chat_template_that_fails_is_an_error_and_the_end(tmp_path: Path) -> None:
    folder = save("llama", tmp_path / "a")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no such turn') }}")
    error, end = told(folder)[-2:]
    assert "no such turn" in error["error"]
    assert end == {"end": True}


def test_what_a_library_prints_is_no_answer() -> None:
    code = """
from engine import serve
def answer(server, request):
    print("stray")
    server._say({"piece": "\\u00e9\\ud800"})
serve.Server.answer = answer
serve.main()
"""
    done = subprocess.run([sys.executable, "-c", code], input="{}\n", capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"piece": "\u00e9\ud800"}]
    assert "stray" in done.stderr


def test_an_answer_that_is_left_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    folder, resident = str(save("llama", tmp_path / "model")), Resident()
    try:
        with closing(resident.ask("B", 400, [folder])) as left:
            next(left)
        assert list(resident.ask("A good", 6, [folder]))[-1]["done"]
        whole = resident._process
        with closing(resident.ask("A good", 6, [folder])) as left:
            next(left)
        assert whole.poll() is not None
    finally:
        resident.close()


def test_the_child_process_says_the_same_and_outlives_an_error(tmp_path: Path) -> None:
    from engine.errors import EngineError

    folder, resident = save("llama", tmp_path / "model"), Resident()
    try:
        with pytest.raises(EngineError, match="no such folder"):
            list(resident.ask("A good", 6, [str(tmp_path / "nothing")]))
        lines = list(resident.ask("A good", 6, [str(folder)]))
        first = resident._process
        assert [line for line in lines if "seconds" not in line] == [
            line for line in told(folder, tokens=6) if "seconds" not in line and "end" not in line
        ]
        assert list(resident.ask("B", 2, [str(folder)]))[-1]["done"]
        assert resident._process is first
    finally:
        resident.close()


def test_a_child_process_that_is_killed_while_it_answers_is_told() -> None:
    from engine.errors import EngineError

    resident, code = Resident(), """print('{"piece": "never"}', flush=True); input(); input()"""
    resident._process = child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    answer = resident.ask("B", 400, ["folder"])
    assert next(answer)["piece"] == "never"
    child.kill()
    with pytest.raises(EngineError, match="killed from outside: signal 9"):
        list(answer)
    assert resident._process is None
