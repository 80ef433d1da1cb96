"""The mix of kinds: which rows the model sees, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from llmops_kit.starter.rows import Maker, Row
from llmops_kit.starter.substitution import Substitution

LANGUAGES = ("ja", "en")
TRAINING_ONLY = frozenset({"quoted"})  # kinds whose rows are measured as another kind


class Curriculum:
    """Draws training rows by weight, and held-out rows kind by kind."""

    def __init__(self, makers: Mapping[str, Maker], weights: Mapping[str, float], substitution: Substitution | None = None) -> None:
        self._makers = dict(makers)
        self._substitution = substitution
        self._kinds = [kind for kind in makers if weights.get(kind, 1.0) > 0]
        self._weights = [weights.get(kind, 1.0) for kind in self._kinds]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the kinds that are measured."""
        return tuple(kind for kind in self._kinds if kind not in TRAINING_ONLY)

    @property
    def weights(self) -> dict[str, float]:
        """How often each kind is drawn, beside the others."""
        return dict(zip(self._kinds, self._weights, strict=True))

    def draw(self, rng: Random) -> Row:
        """A training row: never one that is held out; some with words swapped for rare ones."""
        while True:
            kind = rng.choices(self._kinds, self._weights)[0]
            row = self._makers[kind](rng, rng.choice(LANGUAGES))
            if not row.held_out:
                return self._substitution.apply(rng, row) if self._substitution else row

    def held_out(self, kind: str, language: str, *, count: int, seed: int = 7) -> list[Row]:
        """Up to `count` different held-out rows of a kind; fewer where the kind has no more of them."""
        rng = Random(f"{seed}{kind}{language}")
        rows: dict[str, Row] = {}
        for _ in range(count * 400):
            row = self._makers[kind](rng, language)
            if row.held_out:
                rows.setdefault(row.content, row)
            if len(rows) == count:
                break
        return list(rows.values())
