"""Words of a row swapped for rare ones, so that the model copies what it reads and not what it expects."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from random import Random

from llmops_kit.starter.corpus import Passage
from llmops_kit.starter.rows import Row

COPYING_KINDS = frozenset(
    {"sentence", "summary", "list", "repeat", "quote", "question", "style", "keywords", "fill", "json", "write", "ideas", "extract_announcement", "actions"}
)
SHARE = 0.35  # of the rows of these kinds
PIECES = {"ja": re.compile(r"[一-龯々ァ-ヶー]{1,4}"), "en": re.compile(r"[A-Za-z][A-Za-z'-]{2,}")}


class Substitution:
    """Knows the distinct characters (Japanese) and words (English) of a corpus, each as likely as any other."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        letters: dict[str, set[str]] = {"ja": set(), "en": set()}
        for passage in passages:
            for piece in PIECES[passage.language].findall(passage.text):
                letters[passage.language].update(piece if passage.language == "ja" else (piece,))
        self._pool = {language: sorted(found) for language, found in letters.items()}

    def apply(self, rng: Random, row: Row) -> Row:
        """The row with one to five pieces that stand both in the request and in the answer replaced in both, or unchanged."""
        if row.kind not in COPYING_KINDS or not self._pool[row.language] or rng.random() >= SHARE:
            return row
        found = {piece for piece in PIECES[row.language].findall(row.answer) if f'"{piece}":' not in row.answer}  # a key keeps its meaning
        shared = sorted(piece for piece in found if self._pattern(row.language, piece).search(row.user))
        user, answer = row.user, row.answer
        for piece in rng.sample(shared, min(len(shared), rng.choice((1, 1, 2, 3, 5)))):
            fresh = "".join(rng.choice(self._pool["ja"]) for _ in piece) if row.language == "ja" else rng.choice(self._pool["en"])
            pattern = self._pattern(row.language, piece)
            user, answer = pattern.sub(fresh, user), pattern.sub(fresh, answer)
        return replace(row, user=user, answer=answer)

    def _pattern(self, language: str, piece: str) -> re.Pattern[str]:
        return re.compile(re.escape(piece) if language == "ja" else rf"\b{re.escape(piece)}\b")
