"""What is trained on: the rows of one source in one shape (`Dataset`)."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from llmops_kit.errors import InvalidValue
from llmops_kit.tuning.dataset.rows import Bilingual, Example, Kind, Problem


@dataclass(frozen=True)
class Dataset:
    """The rows of one source in one shape.

    `kind` says what they teach: answers (`sft`), pairs of answers (`dpo`), or good and bad answers (`kto`). `format` names the layout they had,
    `source` where they are from. `columns` says which column was taken for what, `available` which there are. `sha256` is that of the examples.
    """

    name: str
    kind: Kind
    format: str
    examples: tuple[Example, ...] = field(repr=False)
    problems: tuple[Problem, ...] = field(default=(), repr=False)
    sha256: str = ""
    source: str = ""
    encoding: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    available: tuple[str, ...] = ()

    @cached_property
    def unique(self) -> tuple[Example, ...]:
        """The examples without those that repeat an earlier one (equal after NFKC): each is trained on once."""
        first: dict[str, Example] = {}
        for example in self.examples:
            first.setdefault(example.id, example)
        return tuple(first.values())

    @cached_property
    def similar(self) -> tuple[tuple[int, int], ...]:
        """Places in `unique` of rows that are nearly the same, as pairs; of very many rows the first 20,000 are compared."""
        from llmops_kit.tuning.dataset.similarity import find_similar

        return find_similar([f"{example.question}\n{example.answer}\n{example.rejected or ''}" for example in self.unique])

    @property
    def refusal(self) -> Bilingual | None:
        """Why nothing can be learnt from this, in `en` and `ja`; None where it can."""
        from llmops_kit.tuning.dataset.refusals import refuse_rows

        return refuse_rows(self.examples, self.unique, self.problems, columns=self.columns, available=self.available)

    def split(self, share: float, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        """Rows to train on and rows kept for evaluation (`share` of them, at least one where it is above 0), each in the order of the source.

        The same rows, share and seed give the same split. Rows that repeat an earlier one are left out; rows that are nearly the same, ask
        the same or belong to the same test item are on one side.
        """
        from llmops_kit.tuning.dataset.splitting import split_examples

        return split_examples(self.unique, self.similar, share, seed)

    def convert(self, kind: Kind) -> Dataset:
        """The same rows as another kind: pairs as answers to copy (the chosen ones), pairs as good and bad answers, good answers as answers to copy.

        Raises: `InvalidValue` where the rows do not say what that kind needs.
        """
        if kind == self.kind:
            return self
        chosen = [replace(each, rejected=None) for each in self.examples]
        if kind == "sft":
            rows = chosen if self.kind == "dpo" else [replace(each, label=None) for each in self.examples if each.label]
        elif kind == "kto" and self.kind == "dpo":
            bad = [replace(each, answer=str(each.rejected), rejected=None, label=False) for each in self.examples]
            rows = [each for pair in zip([replace(each, label=True) for each in chosen], bad, strict=True) for each in pair]
        else:
            raise _lacking(self.kind, kind)
        return make_dataset(replace(self, kind=kind), rows)


def make_dataset(dataset: Dataset, examples: list[Example]) -> Dataset:
    """`dataset` with these examples, each named by its content, and the hash of them all."""
    named = tuple(replace(each, id=identify(each)) for each in examples)
    digest = hashlib.sha256()
    for each in named:
        digest.update(json.dumps([*_content(each), each.weight], ensure_ascii=False).encode() + b"\n")
    return replace(dataset, examples=named, sha256=digest.hexdigest())


def identify(example: Example) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of what the example says, in NFKC."""
    plain = unicodedata.normalize("NFKC", json.dumps(_content(example), ensure_ascii=False))
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _content(example: Example) -> list[Any]:
    turns = [[turn.role, turn.content.strip()] for turn in example.prompt]
    return [turns, example.answer.strip(), None if example.rejected is None else example.rejected.strip(), example.label]


def _lacking(have: Kind, wanted: Kind) -> InvalidValue:
    needs = {
        "dpo": {"en": "two answers to each prompt (chosen, rejected)", "ja": "1つの指示に対する2つの回答（chosen、rejected）"},
        "kto": {"en": "a label (true or false) for each answer", "ja": "回答ごとのラベル（true／false）"},
    }[wanted]
    return InvalidValue(
        en=f"This data cannot be used for {wanted}: each row needs {needs['en']}. Its rows are of the kind {have}.",
        ja=f"このデータは{wanted}には使えません。各行に{needs['ja']}が必要です（このデータの種類：{have}）。",
        name="data",
        value=have,
        allowed=wanted,
    )
