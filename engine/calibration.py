"""Walks a model block by block over the calibration data and hands every matrix its input before it is used.

Each product is executed once: its complete input arrives, the matrix is compressed, and the product goes on with the
compressed weight (single pass, "true sequential"). When the inputs of a block do not fit in memory the walk falls back to
chunks and two passes: statistics first, then the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import streaming
from engine.blockcall import BlockCall
from engine.matrices import Matrix, Products, Statistics, find_matrices
from engine.spill import on_disk
from engine.subject import DTYPES, Subject
from engine.workspace import Workspace

Visit = Callable[[list[Matrix], Statistics], None]


@dataclass
class Walk:
    """A model, its calibration inputs [samples, T] (token ids) or [rows, columns] (features), and what was found in it.

    `chunk` samples go through together; `compute` is the number format of the products. Between two blocks the hidden
    states wait in memory, or in files of the folder `spill`.
    """

    subject: Subject
    inputs: torch.Tensor
    chunk: int
    compute: torch.dtype
    matrices: list[Matrix] = field(default_factory=list)
    spill: Path | None = None

    @classmethod
    def over(cls, workspace: Workspace, subject: Subject | None = None) -> Walk:
        """A walk over the run's calibration data, of the model under compression or another one."""
        calibration = workspace.profile.calibration
        inputs = workspace.calibration_inputs()
        chunk = calibration.chunk or len(inputs)
        return cls(subject or workspace.subject, inputs, chunk, DTYPES[calibration.compute], spill=workspace.spill())

    def __post_init__(self) -> None:
        self.inputs = self.inputs.to(self.subject.device)
        self._blocks = self.subject.blocks()
        self._tuples = [False] * len(self._blocks)
        self._by_address: dict[int, Matrix] = {}
        stream = self.subject.stream
        if stream is not None and stream.tuples:
            self.matrices, self._tuples = stream.matrices, stream.tuples
            return
        with self.context(), self.subject.rest():
            self._probe()
        if stream is not None:
            stream.tuples = self._tuples

    @contextmanager
    def holding(self, index: int) -> Iterator[None]:
        """The block's weights are in memory inside, and its products are recognized."""
        with self.subject.holding(index):
            self._by_address = {m.weight.data_ptr(): m for m in self.of_block(index)}
            yield

    def blocks(self) -> int:
        return len(self._blocks)

    def of_block(self, index: int) -> list[Matrix]:
        return [matrix for matrix in self.matrices if matrix.block == index]

    def weights(self, index: int) -> dict[str, torch.Tensor]:
        """{name: weight [out, in]} of a block's matrices."""
        return {matrix.name: matrix.weight for matrix in self.of_block(index)}

    def run(self, visit: Callable[[int], Visit | None], want_gram: bool) -> Iterator[int]:
        """Goes through the blocks in order and yields the index of each when it is finished.

        `visit(block)` returns what to do with each group of matrices and their statistics, or None to let the block pass
        as it is (one that an earlier process finished).
        """
        with self.context():
            hidden, calls = self.enter()
        for index in range(self.blocks()):
            with self.holding(index):
                action = visit(index)
                with self.context():  # not around the yield: whoever stops there would stay inside
                    hidden = self._through(index, calls[index], hidden, action, want_gram)
                yield index

    def _through(
        self, index: int, calls: list[BlockCall], hidden: list[torch.Tensor], action: Visit | None, want_gram: bool
    ) -> list[torch.Tensor]:
        """A block's outputs, after the action on its matrices."""
        if action is not None and len(hidden) == 1:
            return [self._single_pass(index, calls[0], hidden[0], action, want_gram)]
        if action is not None:
            self._two_pass_statistics(index, calls, hidden, action, want_gram)
        return self.forward(index, calls, hidden, discard=True)

    def _single_pass(
        self, index: int, call: BlockCall, hidden: torch.Tensor, action: Visit, want_gram: bool
    ) -> torch.Tensor:
        groups = self.groups(index)
        done: set[int] = set()

        def seen(x: torch.Tensor, w: torch.Tensor) -> None:
            matrix = self._matrix(w)
            if matrix and matrix.group not in done:
                done.add(matrix.group)
                with self._precise():
                    action(groups[matrix.group], Statistics.of(x, want_gram))

        with Products(seen):
            out = call(self._blocks[index], self._here(hidden))
        self._unreached(groups, done, action, want_gram)
        return self._kept(out, hidden)

    def _two_pass_statistics(
        self, index: int, calls: list[BlockCall], hidden: list[torch.Tensor], action: Visit, want_gram: bool
    ) -> None:
        groups = self.groups(index)
        statistics: dict[int, Statistics] = {}
        for call, part in zip(calls, hidden, strict=True):
            counted: set[int] = set()

            def seen(x: torch.Tensor, w: torch.Tensor, counted: set[int] = counted) -> None:
                matrix = self._matrix(w)
                if matrix and matrix.group not in counted:
                    counted.add(matrix.group)
                    with self._precise():
                        new = Statistics.of(x, want_gram)
                    old = statistics.get(matrix.group)
                    statistics[matrix.group] = old.merged(new) if old else new

            with Products(seen):
                call(self._blocks[index], self._here(part))
        with self._precise():
            for group, found in statistics.items():
                action(groups[group], found)
        self._unreached(groups, set(statistics), action, want_gram)

    def _unreached(self, groups: dict[int, list[Matrix]], done: set[int], action: Visit, want_gram: bool) -> None:
        for group in groups.keys() - done:
            matrices = groups[group]
            nothing = Statistics.none(matrices[0].shape[1], want_gram, matrices[0].weight.device)
            with self._precise():
                action(matrices, nothing)

    def _precise(self) -> AbstractContextManager[Any]:
        """Statistics and solvers work in float32, outside the walk's autocast."""
        return torch.autocast(self.subject.device.type, enabled=False)

    def groups(self, index: int) -> dict[int, list[Matrix]]:
        """A block's matrices, those that share an input together."""
        groups: dict[int, list[Matrix]] = {}
        for matrix in self.of_block(index):
            groups.setdefault(matrix.group, []).append(matrix)
        return groups

    def _matrix(self, weight: torch.Tensor) -> Matrix | None:
        found = self._by_address.get(weight.data_ptr())
        return found if found is not None and found.shape == tuple(weight.shape) else None

    def block(self, index: int) -> nn.Module:
        return self._blocks[index]

    def prefix(self, index: int) -> str:
        """The block's name in the model."""
        return streaming.name_of(self._blocks[index], self.subject.module)

    def pass_on(self, index: int) -> None:
        """Makes the block return its input from now on, as if it were not there."""
        is_tuple = self._tuples[index]

        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = args[0] if args else kwargs["hidden_states"]
            return (hidden, None) if is_tuple else hidden

        self._blocks[index].forward = forward

    def forward(
        self, index: int, calls: Sequence[BlockCall], hidden: Sequence[torch.Tensor], *, discard: bool = False
    ) -> list[torch.Tensor]:
        """A block's outputs, chunk by chunk; `discard` when nobody needs the inputs any more: outputs take their files."""
        pairs = zip(calls, hidden, strict=True)
        with self.holding(index):
            return [self._kept(self._output(index, *pair), pair[1] if discard else None) for pair in pairs]

    def pass_through(self, index: int, calls: Sequence[BlockCall], hidden: Sequence[torch.Tensor]) -> None:
        """Runs a block for what can be watched inside it; its outputs are not kept."""
        with self.holding(index):
            for pair in zip(calls, hidden, strict=True):
                self._output(index, *pair)

    def _output(self, index: int, call: BlockCall, hidden: torch.Tensor) -> torch.Tensor:
        return call(self._blocks[index], self._here(hidden))

    def _here(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.to(self.subject.device)

    def _kept(self, hidden: torch.Tensor, earlier: torch.Tensor | None = None) -> torch.Tensor:
        """What is kept of hidden states until the next block: themselves, or a file, that of the earlier ones where it fits."""
        if self.spill is None:
            return hidden
        if earlier is not None and (earlier.shape, earlier.dtype) == (hidden.shape, hidden.dtype):
            return earlier.copy_(hidden)
        return on_disk(hidden, self.spill)

    def enter(self) -> tuple[list[torch.Tensor], list[list[BlockCall]]]:
        """The first block's inputs and every block's other arguments, per chunk; no block is computed."""
        hidden: list[torch.Tensor] = []
        calls: list[list[BlockCall]] = [[] for _ in self._blocks]
        with self.subject.rest():
            for part in torch.split(self.inputs, self.chunk):
                first, per_block = self._record(part)
                hidden.append(self._kept(first))
                for known, call in zip(calls, per_block, strict=True):
                    known.append(call.sharing(known[-1]) if known else call)
        return hidden, calls

    def logits(self, part: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """What the model makes of the last block's outputs [chunk, T, hidden] for these token ids [chunk, T]; a model that is
        one block has made them already.
        """
        if not self.subject.is_language_model:
            return hidden
        given = self._here(hidden)
        with self.subject.rest(), self._standing_in(lambda index, received: given if index == 0 else received):
            out: torch.Tensor = self.subject.module(input_ids=part, use_cache=False).logits
        return out

    def _record(self, part: torch.Tensor) -> tuple[torch.Tensor, list[BlockCall]]:
        """Calls the model with blocks that pass their input on, and notes how each is called."""
        if not self.subject.is_language_model:
            return part, [BlockCall((), {}, None)]
        first: list[torch.Tensor] = []

        def passed_on(index: int, received: torch.Tensor) -> torch.Tensor:
            first.append(received)
            return received

        with self._standing_in(passed_on) as calls:
            self._decoder()(input_ids=part, use_cache=False)
        return first[0], calls

    @contextmanager
    def _standing_in(self, answer: Callable[[int, torch.Tensor], torch.Tensor]) -> Iterator[list[BlockCall]]:
        """No block computes inside: each answers with `answer(index, hidden states received)`; notes how each is called."""
        calls: list[BlockCall] = []

        def stand_in(index: int, is_tuple: bool) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                keyword = None if args else "hidden_states"
                hidden = answer(index, args[0] if args else kwargs["hidden_states"])
                calls.append(BlockCall(args[1:], kwargs, keyword))
                return (hidden, None) if is_tuple else hidden

            return forward

        try:
            for index, (block, is_tuple) in enumerate(zip(self._blocks, self._tuples, strict=True)):
                block.forward = stand_in(index, is_tuple)
            yield calls
        finally:
            for block in self._blocks:
                block.__dict__.pop("forward", None)

    def _decoder(self) -> Any:
        """The model without its head: calibration needs no logits."""
        return getattr(self.subject.module, "base_model", self.subject.module)

    def _probe(self) -> None:
        """Runs a few tokens to learn which weights each block multiplies with, and whether it returns a tuple."""
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []  # inputs stay alive, so that an address means one tensor
        holders = [self.subject.holding(index) for index in range(self.blocks())]
        inside: list[int] = []

        def note(x: torch.Tensor, w: torch.Tensor) -> None:
            if inside:
                seen.append((x, w))

        def enter(index: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any) -> None:
                holders[index].__enter__()
                inside.append(index)

            return hook

        def leave(index: int) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, out: Any) -> None:
                inside.pop()
                self._found(index, [(id(x), w) for x, w in seen], isinstance(out, tuple))
                seen.clear()
                holders[index].__exit__(None, None, None)

            return hook

        hooks = [block.register_forward_pre_hook(enter(i)) for i, block in enumerate(self._blocks)]
        hooks += [block.register_forward_hook(leave(i)) for i, block in enumerate(self._blocks)]
        try:
            with Products(note):
                few = self.inputs[:1, :8]
                if self.subject.is_language_model:
                    self._decoder()(input_ids=few, use_cache=False)
                else:
                    self.subject.module(self.inputs[:1])
        finally:
            for hook in hooks:
                hook.remove()

    def _found(self, index: int, watched: list[tuple[int, torch.Tensor]], is_tuple: bool) -> None:
        """Takes note of what a block that is in memory multiplies with and returns."""
        block = self._blocks[index]
        matrices = find_matrices(block, index, self.prefix(index), watched)
        self.matrices += matrices
        self._tuples[index] = is_tuple
        if self.subject.stream is not None:
            self.subject.stream.found(matrices)

    @contextmanager
    def context(self) -> Iterator[None]:
        """Without gradients and in the walk's number format: everything that calls blocks happens inside."""
        device = self.subject.device.type
        low = self.compute != torch.float32 and self.subject.is_language_model
        # without the cache: autocast would keep a matrix's cast from before it was compressed
        with torch.no_grad(), torch.autocast(device, dtype=self.compute, enabled=low, cache_enabled=False):
            yield
