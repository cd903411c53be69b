"""Which tokens may take the place of which: how every token reads after others, and what is a whole word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from engine.subject import Subject

SHORT = 2  # letters of the shortest word
FIRST = 3  # letters of the shortest word at the very beginning, where it also begins with a capital


class Vocabulary:
    """`pieces[id]` is what a token adds to a text before it. `words` allows whole words in the place of whole words only."""

    def __init__(self, subject: Subject, words: bool) -> None:
        module: Any = subject.module
        tokenizer: Any = subject.tokenizer
        self._special = set(tokenizer.all_special_ids)
        self.pieces = readings(tokenizer, min(len(tokenizer), module.get_input_embeddings().weight.shape[0]))
        self._words = words
        plain = [(i, piece) for i, piece in enumerate(self.pieces) if i not in self._special]
        everything = [i for i, _ in plain]
        inner = [i for i, piece in plain if is_word(piece)] if words else everything
        large = [i for i in inner if self.pieces[i][1:2].isupper()] if words else everything
        small = [i for i in inner if self.pieces[i] == self.pieces[i].lower()] if words else everything
        first = [i for i, piece in plain if is_first(piece)] if words else everything
        self._large, self._small, self._first = (torch.tensor(ids, dtype=torch.long) for ids in (large, small, first))

    def replacements(self, ids: Sequence[int], at: int) -> torch.Tensor:
        """Ids of the tokens that may stand at `at` instead; none where the token is special or a part of a word.

        Words with a capital take the place of such words, others of others.
        """
        begins = all(i in self._special for i in ids[:at])
        piece = self.pieces[ids[at]]
        if ids[at] in self._special or (self._words and not self._whole(piece, ids, at, begins)):
            return self._small[:0]
        if begins:
            return self._first
        return self._large if piece[1:2].isupper() else self._small

    def _whole(self, piece: str, ids: Sequence[int], at: int, begins: bool) -> bool:
        goes_on = at + 1 < len(ids) and self.pieces[ids[at + 1]][:1].isalnum()
        return not goes_on and (piece.isalpha() if begins else piece[:1] == " " and piece[1:].isalpha())


def is_word(piece: str) -> bool:
    return piece[:1] == " " and piece[1:].isalpha() and len(piece) > SHORT


def is_first(piece: str) -> bool:
    return piece.isalpha() and piece[0].isupper() and len(piece) >= FIRST


def readings(tokenizer: Any, size: int) -> list[str]:
    """What every token adds behind another one; "" for what only reads together with others."""
    anchor = tokenizer("a", add_special_tokens=False).input_ids[-1]
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    alone = tokenizer.decode([anchor], **options)
    both = tokenizer.batch_decode([[anchor, i] for i in range(size)], **options)
    return [text[len(alone) :] if text.startswith(alone) and "\ufffd" not in text else "" for text in both]
