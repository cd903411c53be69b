"""The app through a pseudo-terminal of 120x40: first frame beside harlequin's, Inspect of a 70B-size header set, key to screen
while a run writes 200 events a second, processor time idle and following, bytes to the terminal while following.

python bench/app.py [--runs 5] [--seconds 20] [--keys 100] [--no-peer]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import place
from startup import both
from terminal import Terminal

from engine import events as ev
from engine import runs
from engine.eventfile import EventWriter
from engine.owners import Owner

BLOCKS, HIDDEN, INNER, KEYS, WORDS = 80, 8192, 28672, 1024, 128256  # of Llama 3 70B
SHARDS = 30
PER_SECOND = 200
PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NAMES = [f"model.layers.{block}.{part}" for block in range(30) for part in PARTS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--no-peer", action="store_true")
    arguments = parser.parse_args()
    peer = None if arguments.no_peer else place.environment("harlequin", "harlequin==2.*")
    pairs = [both(peer) for _ in range(arguments.runs + 1)][1:]
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    beside = "" if peer is None else f"; harlequin {theirs:.3f} s; ratio {mine / theirs:.2f} (bound 0.75)"
    print(f"first frame: {mine:.3f} s{beside}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(f"inspect, 70B headers: {inspected(Path(folder), arguments.runs):.3f} s (bound 1)", flush=True)
        print(f"idle: {idle(Path(folder), arguments.seconds):.1%} of one core (aim 2%)", flush=True)
        follow(Path(folder), arguments.seconds, arguments.keys)


def inspected(folder: Path, times: int) -> float:
    """Median seconds from the path's enter to the tree of 723 tensors."""
    model = headers(folder / "llama-70b")
    return statistics.median(_inspected(folder, model) for _ in range(times))


def _inspected(folder: Path, model: Path) -> float:
    with closing(_app(folder)) as terminal:
        terminal.wait("? help")
        terminal.press("1")
        terminal.wait("No model is open")
        terminal.press("m")
        terminal.wait("enter accept")
        for keys in ("\x15", str(model)):  # ctrl+u clears the line
            terminal.press(keys)
            terminal.rest(0.5)
        terminal.press("\r")
        return terminal.wait("723 tensors")


def idle(folder: Path, seconds: float) -> float:
    """Share of a core that the app takes with nothing going on."""
    with closing(_app(folder)) as terminal:
        terminal.wait("? help")
        terminal.rest(3.0)
        before = terminal.cpu()
        terminal.rest(seconds)
        return (terminal.cpu() - before) / seconds


def follow(folder: Path, seconds: float, keys: int) -> None:
    """Follows a run that writes PER_SECOND events a second: cost of the display, and of a key."""
    run = going(folder)
    stop = threading.Event()
    thread = threading.Thread(target=_write, args=(run, stop), daemon=True)
    with closing(_app(folder, "attach", str(run.path))) as terminal:
        thread.start()
        terminal.wait("q_proj")
        terminal.rest(3.0)
        cpu, sent = terminal.cpu(), terminal.bytes
        terminal.rest(seconds)
        print(f"following: {(terminal.cpu() - cpu) / seconds:.1%} of one core (aim 10%)", flush=True)
        print(f"following: {(terminal.bytes - sent) / seconds / 1000:.1f} kB/s to the terminal (aim 30)", flush=True)
        waits = sorted(_key_waits(terminal, keys))
        print(
            f"key to screen: median {1000 * statistics.median(waits):.0f} ms, "
            f"95% {1000 * waits[int(0.95 * len(waits))]:.0f} ms of {keys} keys (bound 80, aim 50)",
            flush=True,
        )
    stop.set()
    thread.join()


def _key_waits(terminal: Terminal, keys: int) -> list[float]:
    """Seconds from `j` to the title that names the next matrix."""
    terminal.press("g")
    terminal.wait(f"Layers · {NAMES[0]}")
    waits = []
    for index in range(1, keys + 1):
        terminal.rest(0.11)  # out of step with the display's own looks at the run
        terminal.press("j")
        waits.append(terminal.wait(f"Layers · {NAMES[index]}"))
    return waits


def going(folder: Path) -> runs.Run:
    """A run of this very process that has begun to prune."""
    run = runs.create(
        "bench", 'name = "bench"\n[model]\nsource = "demo"\n', folder / "runs" / "20260101T000000-bench-ab12"
    )
    (run.path / "state.json").write_text(json.dumps(asdict(Owner.this_process())))
    matrices = [{"name": name, "block": i // 7, "shape": [64, 64], "parameters": 4096} for i, name in enumerate(NAMES)]
    writer = EventWriter(run.events_file)
    writer(ev.RunStarted(run=run.name, profile="bench", source="demo", steps=["prune", "finetune"]))
    writer(
        ev.ModelLoaded(
            source="demo", device="cpu", dtype="float32", architecture="Llama", parameters=10**8, bytes=4 * 10**8,
            threads=2, matrices=matrices,
        )
    )  # fmt: skip
    writer(ev.StepStarted(step=0, use="prune"))
    writer.close()
    return run


def _write(run: runs.Run, stop: threading.Event) -> None:
    """Progress, matrices, losses and lines of the log, in turn, evenly spread over each second."""
    writer, number, began = EventWriter(run.events_file), 0, time.perf_counter()
    while not stop.is_set():
        number += 1
        name = NAMES[number // 4 % len(NAMES)]
        kinds: tuple[ev.Event, ...] = (
            ev.Progress(step=0, label="pruning", done=number, total=10**6, unit="blocks"),
            ev.LayerPruned(
                step=0, layer=name, block=0, shape=[64, 64], sparsity=0.5, error=1 / (1 + number % 97), seconds=0.1,
                done=number, total=10**6,
            ),
            ev.LossMeasured(step=0, part="train", loss=3 / number**0.1, done=number, total=10**6, per_second=900.0),
            ev.Log(message=f"line {number} of the run"),
        )  # fmt: skip
        writer(kinds[number % 4])
        time.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
    writer.close()


def headers(folder: Path) -> Path:
    """A folder of safetensors shards with the headers of a 70B model and no weights: the files are sparse."""
    folder.mkdir()
    tensors = {
        "model.embed_tokens.weight": (WORDS, HIDDEN),
        "lm_head.weight": (WORDS, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    for block in range(BLOCKS):
        shapes = [(HIDDEN, HIDDEN), (KEYS, HIDDEN), (KEYS, HIDDEN), (HIDDEN, HIDDEN),
                  (INNER, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER)]  # fmt: skip
        for part, shape in zip(PARTS, shapes, strict=True):
            tensors[
                f"model.layers.{block}.{'mlp' if shape[0] == INNER or part[0] == 'd' else 'self_attn'}.{part}.weight"
            ] = shape
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{block}.{norm}.weight"] = (HIDDEN,)
    names, index = list(tensors), {}
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        begin, header = 0, {}
        for name in names[shard::SHARDS]:
            end = begin + 2 * tensors[name][0] * (tensors[name] + (1,))[1]
            header[name] = {"dtype": "BF16", "shape": list(tensors[name]), "data_offsets": [begin, end]}
            begin, index[name] = end, file
        text = json.dumps(header).encode()
        with (folder / file).open("wb") as handle:
            handle.write(len(text).to_bytes(8, "little") + text)
            handle.truncate(8 + len(text) + begin)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": BLOCKS,
        "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": WORDS, "intermediate_size": INNER,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def _app(folder: Path, *arguments: str) -> Terminal:
    """The app with runs, cache and settings of its own."""
    return Terminal(
        [place.SCRIPT, *arguments],
        COMPRESS_TUI_RUNS=str(folder / "runs"), COMPRESS_TUI_CACHE=str(folder / "cache"),
        COMPRESS_TUI_STATE=str(folder / "state"), COMPRESS_TUI_CONFIG=str(folder / "config.toml"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
