"""Built-in small models that bring their own data: the worked example's linear classifier.

100 samples of 1,000 features in two classes, a linear model of 1,000 weights. Everything follows from the seed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from engine.data.features import Features

SAMPLES, COLUMNS, INFORMATIVE = 100, 1000, 50


class LinearClassifier(nn.Module):
    """One weight a feature, no bias: logit [rows, 1] of features [rows, columns]; class 1 where it is positive."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.linear = nn.Linear(columns, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(x)
        return logits


def linear(seed: int) -> tuple[nn.Module, Features]:
    """The worked example: features, and the ridge solution w = Xᵀ(XXᵀ + λI)⁻¹y, λ = 1, y in {-1, +1}.

    Features are standard normal; the first 50 are shifted by ±0.5 with the class; each column is then standardized.
    """
    random = np.random.default_rng(seed)
    y = np.arange(SAMPLES) % 2
    x = random.standard_normal((SAMPLES, COLUMNS))
    x[:, :INFORMATIVE] += 0.5 * (2 * y[:, None] - 1)
    mean, std = x.mean(0), x.std(0)
    x = (x - mean) / std
    w = x.T @ np.linalg.solve(x @ x.T + np.eye(SAMPLES), 2.0 * y - 1)
    module = LinearClassifier(COLUMNS)
    with torch.no_grad():
        module.linear.weight.copy_(torch.from_numpy(w)[None])
    columns = tuple(f"x{i}" for i in range(COLUMNS))
    features = Features(
        x=x.astype(np.float32), y=y.astype(np.int64), columns=columns, fingerprint=f"linear:{seed}", mean=mean, std=std
    )
    return module, features
