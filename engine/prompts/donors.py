"""Which training rows a search may show."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from engine.data.rows import Row
from engine.prompts import pool
from engine.prompts.adjusting import Setting

LONG = 2.0  # a training row longer than so many times the median is no demonstration


@dataclass(frozen=True)
class Donors:
    """The training rows that may be shown, and how many of them a prompt may show."""

    rows: Sequence[Row]
    labelled: bool
    most: int

    @classmethod
    def of(cls, setting: Setting) -> Donors:
        train = setting.task.train
        limit = LONG * statistics.median(len(row.text) for row in train)
        short = [row for row in train if len(row.text) <= limit]
        most = max(setting.options.max_demonstrations, len(setting.start.demonstrations))
        return cls(short, bool(setting.task.labels), min(most, len(short)))

    def drawn(self, count: int, setting: Setting) -> tuple[Row, ...]:
        return pool.draw(self.rows, count, self.labelled, setting.generator)
