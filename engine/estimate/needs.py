"""What a piece of work needs, to be added up: products, traffic and calls become seconds, the rest stays bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from engine.estimate.machine import Rates

EFFICIENCY = 0.6  # of the timed product's rate, reached by products of a model's shapes
CALL = 1e-3  # seconds of Python and of launching in one call of one block


@dataclass(frozen=True)
class Work:
    """`products` {number format: multiplications and additions}, `traffic` bytes read or written, `calls` of blocks,
    `fixed` seconds that depend on no size.
    """

    products: dict[str, float] = field(default_factory=dict)
    traffic: float = 0.0
    calls: float = 0.0
    fixed: float = 0.0

    def __add__(self, other: Work) -> Work:
        products = Counter(self.products)
        products.update(other.products)
        traffic, calls = self.traffic + other.traffic, self.calls + other.calls
        return Work(dict(products), traffic, calls, self.fixed + other.fixed)

    def __mul__(self, times: float) -> Work:
        products = {name: times * count for name, count in self.products.items()}
        return Work(products, times * self.traffic, times * self.calls, times * self.fixed)

    def seconds(self, rates: Rates) -> float:
        """At the machine's rates."""
        products = sum(count / (EFFICIENCY * rates.products[name]) for name, count in self.products.items())
        return products + self.traffic / rates.traffic + CALL * self.calls + self.fixed


@dataclass(frozen=True)
class Needs:
    """Bytes and work: `memory` is the most at one time beside the loaded model, `disk` in the run's folder, `scratch` there
    too but given back, `cache` in the user's.
    """

    memory: float = 0.0
    disk: float = 0.0
    cache: float = 0.0
    work: Work = Work()
    scratch: float = 0.0

    def then(self, later: Needs) -> Needs:
        """Both, one after the other: memory and scratch are given back between them."""
        return Needs(max(self.memory, later.memory), self.disk + later.disk, self.cache + later.cache,
                     self.work + later.work, max(self.scratch, later.scratch))  # fmt: skip

    def beside(self, memory: float) -> Needs:
        """The same while so many more bytes are held."""
        return replace(self, memory=self.memory + memory)

    def during(self, other: Needs) -> Needs:
        """Both at the same time."""
        return Needs(self.memory + other.memory, self.disk + other.disk, self.cache + other.cache,
                     self.work + other.work, self.scratch + other.scratch)  # fmt: skip
