"""What the process that runs an artifact is told, and what it answers; no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

Asked = tuple[list[int], list[list[int]]]
"""token ids, and what may stand at their end: several single tokens that follow, or one target whose tokens but the last are
the ids' own last ones"""

Continued = tuple[list[list[int]], int, list[int]]
"""token ids of several texts, how many tokens may be written behind each, and the tokens that end it"""


@dataclass(frozen=True)
class Spec:
    """`runtime` (a module of this package) runs the artifact in `folder` of export format `form` on `threads`.

    `windows` of token ids are for perplexity, from the first of them the logits of `kept` tokens go into the file `logits`.
    `prompt` tokens are followed by `decode` generated ones; `prefill` tokens are read at once; both `repeats` times; and
    shortly, after all else, on each of the other `counts` of threads. A module
    that is no language model answers the rows in `features`, a safetensors file; one that is gives log-likelihoods to what is
    `asked` and writes on behind what is to be `continued`.
    """

    runtime: str
    form: str
    folder: str
    threads: int
    dtype: str = "float32"
    device: str = "cpu"
    windows: list[list[int]] = field(default_factory=list)
    kept: int = 0
    logits: str = ""
    prompt: list[int] = field(default_factory=list)
    decode: int = 0
    prefill: list[int] = field(default_factory=list)
    repeats: int = 1
    counts: list[int] = field(default_factory=list)
    features: str = ""
    asked: list[Asked] = field(default_factory=list)
    continued: list[Continued] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """Seconds, bytes, tokens a second; None for what was not asked or what the runtime cannot tell. `losses` are mean nats a
    token of every window, `tokens` the first that were generated, `right` which of the `features` were answered right,
    `likelihoods` those of every target, `written` what was, an end included; `speeds` (threads, decode, prefill) of the other
    counts.
    """

    load_seconds: float
    memory: int
    losses: list[float] = field(default_factory=list)
    first_token_seconds: float | None = None
    decode: float | None = None
    prefill: float | None = None
    tokens: list[int] = field(default_factory=list)
    right: list[bool] | None = None
    likelihoods: list[list[float]] = field(default_factory=list)
    written: list[list[list[int]]] = field(default_factory=list)
    speeds: list[tuple[int, float, float]] = field(default_factory=list)
