"""Pruning a model that is larger than the memory it may use: the peak of anonymous memory against its bound.

    python bench/scale.py [--criteria wanda sparsegpt] [--limit 2.0] [--keep FOLDER]

A random 1.1B-parameter model of 2.2 GB in bfloat16, in shards of at most 300 MB, is pruned to 50% and exported by a process
whose data segment is limited (RLIMIT_DATA) to less than the model. RssAnon is sampled from /proc all the while. The bound is
the largest block + the calibration states + 1.5 GB.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from engine.export.sharded import HEADER, ShardWriter
from engine.weights import save_settings

CONFIG = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
          "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 2048, "tie_word_embeddings": False,
          "bos_token_id": 0, "eos_token_id": 0, "dtype": "bfloat16"}  # fmt: skip
SHARD, SLACK, EVERY = 300 * 10**6, 1.5 * 10**9, 0.02
SAMPLES, LENGTH = 8, 256
PROFILE = """
name = "scale"
threads = 2

[model]
source = "{folder}"
device = "cpu"
dtype = "bfloat16"

[calibration]
source = "stdlib"
samples = {samples}
length = {length}

[evaluate]
perplexity = "{perplexity}"
windows = 2
length = 256
speed = false

[[step]]
use = "prune"
criterion = "{criterion}"

[[step]]
use = "export"
"""


def make(folder: Path) -> None:
    """Writes the model, one random tensor at a time."""
    model = empty_model()
    generator = torch.Generator().manual_seed(0)
    folder.mkdir()
    with ShardWriter(folder, SHARD - HEADER) as writer:
        for name, empty in model.state_dict().items():
            weight = torch.ones(empty.shape) if empty.ndim == 1 else torch.empty(empty.shape)
            writer.add(name, (weight if empty.ndim == 1 else weight.normal_(0, 0.02, generator=generator)).bfloat16())
    save_settings(model, folder, torch.bfloat16)
    tokenizer().save_pretrained(folder)


def empty_model() -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(LlamaConfig(**CONFIG), dtype=torch.bfloat16)


def sizes(folder: Path) -> dict[str, int]:
    """Parameters, bytes of all weights, of the largest block and of the largest shard."""
    model = empty_model()
    parameters = sum(p.numel() for p in model.parameters())
    block = max(2 * sum(p.numel() for p in layer.parameters()) for layer in model.model.layers)
    shard = max(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert shard <= SHARD
    return {"bytes": 2 * parameters, "parameters": parameters, "block": block, "shard": shard}


def tokenizer() -> PreTrainedTokenizerFast:
    """A small byte-level BPE, trained on Python's own documentation."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
    from tokenizers.models import BPE

    raw = Tokenizer(BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(topics.values(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="<s>")


def watched(command: list[str | Path], limit: int) -> tuple[int, float]:
    """Runs the command under the limit; returns its peak of RssAnon in bytes, and its seconds."""
    began = time.monotonic()
    process = subprocess.Popen(command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))
    peak = 0

    def sample() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(EVERY)

    watcher = threading.Thread(target=sample)
    watcher.start()
    code = process.wait()
    watcher.join()
    if code:
        sys.exit(f"the run ended with {code}")
    return peak, time.monotonic() - began


def anonymous(pid: int) -> int:
    """RssAnon in bytes; 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--criteria", nargs="+", default=["wanda", "sparsegpt"])
    parser.add_argument("--limit", type=float, default=2.0, help="GB that the process's data may take")
    parser.add_argument("--perplexity", action="store_true", help="measure it too, at every stage")
    parser.add_argument("--keep", type=Path, help="where the model is made, or lies from an earlier time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = arguments.keep or work / "model"
        if not folder.is_dir():
            make(folder)
        about = sizes(folder)
        limit = round(arguments.limit * 1e9)
        assert limit < about["bytes"], "the limit must be below the model's size"
        print(f"model: {about['parameters'] / 1e9:.3f}B parameters, {about['bytes'] / 1e9:.2f} GB, largest shard "
              f"{about['shard'] / 1e6:.0f} MB; RLIMIT_DATA {limit / 1e9:.2f} GB", flush=True)  # fmt: skip
        for criterion in arguments.criteria:
            text = PROFILE.format(folder=folder, criterion=criterion, samples=SAMPLES, length=LENGTH,
                                  perplexity="stdlib" if arguments.perplexity else "none")  # fmt: skip
            one_case(criterion, text, about["block"], limit, work)


def one_case(criterion: str, text: str, block: int, limit: int, work: Path) -> None:
    profile = work / f"{criterion}.toml"
    profile.write_text(text)
    run = work / criterion
    command = [sys.executable, "-m", "tui.cli", "run", "--profile", profile, "--run-dir", run]
    peak, seconds = watched(command, limit)
    states = SAMPLES * LENGTH * int(str(CONFIG["hidden_size"])) * 2
    bound = block + states + SLACK
    verdict = "holds" if peak <= bound else "MISSED"
    print(f"{criterion}: peak RssAnon {peak / 1e6:.0f} MB, bound {bound / 1e6:.0f} MB (block {block / 1e6:.0f} + states "
          f"{states / 1e6:.1f} + 1500): {verdict}; {seconds:.0f} s; halved exactly: {halved(run)}", flush=True)  # fmt: skip
    subprocess.run(["rm", "-r", run], check=True)


def halved(run: Path) -> bool:
    """Whether half of every block matrix in the exported shards is zero."""
    from safetensors import safe_open

    for file in (run / "artifacts" / "model").glob("*.safetensors"):
        with safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                weight = stored.get_tensor(name) if ".layers." in name else torch.zeros(0)
                if weight.ndim == 2 and 2 * int((weight == 0).sum()) < weight.numel():
                    return False
    return True


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
