"""Whether rows that are to be trained on stand in a test set of the workspace too; what is measured there afterwards would flatter.

Two texts overlap where they are equal in NFKC (spaces and case aside), or share 25 characters (Japanese) or 12 words (English), the windows
with which the starter models' own data was kept clean (`llmops_kit.starter.corpus`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import yaml

from llmops_kit.starter.corpus import windows
from llmops_kit.types import Comparison, Evaluation

if TYPE_CHECKING:
    from llmops_kit.store import Store
    from llmops_kit.tuning.dataset.rows import Bilingual, Example

_ASKED = ("question", "prompt", "input", "text", "instruction", "sentence", "context", "premise", "hypothesis")
_EXPECTED = ("expected", "passage", "reference")
_LEAST_EXACT = 6  # characters; shorter questions (「はい」) are equal by chance
_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_LABELLED = re.compile(r"^[^:：]{1,12}[:：]\s*(.+)$")


@dataclass(frozen=True)
class Leak:
    """A training row (`line`) with a text that is in a test set too: which (`where`, in `en` and `ja`), the shared `text`, and how much of it is."""

    line: int
    where: Bilingual
    text: str
    match: Literal["exact", "window"]


@dataclass
class TestTexts:
    """What the test sets of a workspace ask and expect: whole texts and windows, each with where it is from."""

    exact: dict[str, Bilingual] = field(default_factory=dict)
    shared: dict[str, Bilingual] = field(default_factory=dict)

    def add(self, where: Bilingual, asked: Iterable[str], expected: Iterable[str] = ()) -> None:
        """Take in what one item asks, and the answer expected of it."""
        for text in asked:
            if len(plain := _plain(text)) >= _LEAST_EXACT:
                self.exact.setdefault(plain, where)
            for window in _windows(text):
                self.shared.setdefault(window, where)
        for text in expected:
            for window in _windows(text):
                self.shared.setdefault(window, where)

    def find(self, example: Example) -> Leak | None:
        """The first overlap of a row."""
        texts = [*(turn.content for turn in example.prompt if turn.role != "system"), example.answer, example.rejected or ""]
        for text in texts:
            for part in _parts(text):
                if where := self.exact.get(_plain(part)):
                    return Leak(example.line, where, part, "exact")
        for text in texts:
            if window := next((window for window in _windows(text) if window in self.shared), None):
                return Leak(example.line, self.shared[window], window, "window")
        return None


def find_leakage(examples: Sequence[Example], store: Store) -> tuple[Leak, ...]:
    """The rows that overlap with the bundled questions, or with what was evaluated or compared in this workspace; one find per row."""
    tests = TestTexts()
    _add_bundled(tests)
    for comparison in store.find(Comparison):
        where = _name("comparison", "比較", comparison.spec, comparison.id)
        for row in comparison.spec.get("rows", ()):
            tests.add(where, _strings((row.get("variables") or {}).values()), _strings([row.get("expected")]))
    for evaluation in store.find(Evaluation):
        where = _name("evaluation", "評価", evaluation.spec, evaluation.id)
        for row in evaluation.rows:
            asked = [*(row.get(name) for name in _ASKED), *_spoken(row.get("messages"))]
            tests.add(where, _strings(asked), _strings(row.get(name) for name in _EXPECTED))
    return tuple(leak for example in examples if (leak := tests.find(example)))


def _add_bundled(tests: TestTexts) -> None:
    file = files("llmops_kit") / "documents" / "samples" / "questions.yaml"
    where = {"en": "the questions about the sample documents", "ja": "サンプル文書の質問集"}
    for row in yaml.safe_load(file.read_text(encoding="utf-8")):
        tests.add(where, [row["question"]], [row["answer"]])


def _name(en: str, ja: str, spec: Mapping[str, Any], id: str) -> dict[str, str]:
    prompt = spec.get("prompt")
    name = spec.get("name") or spec.get("task") or (prompt.get("name") if isinstance(prompt, Mapping) else None) or id[-8:]
    return {"en": f"the {en} “{name}”", "ja": f"{ja}「{name}」"}


def _strings(values: Iterable[Any]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str) and value.strip())


def _spoken(messages: Any) -> Iterator[Any]:
    return (turn.get("content") for turn in messages if isinstance(turn, Mapping)) if isinstance(messages, list) else iter(())


def _parts(text: str) -> Iterator[str]:
    """The text, its lines, and what stands behind a label such as 「質問：」."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    yield text
    yield from lines if len(lines) > 1 else ()
    for line in lines:
        if labelled := _LABELLED.match(line):
            yield labelled[1]


def _windows(text: str) -> Iterator[str]:
    """Windows of a Japanese text by characters, of any other by words."""
    return windows(text, "ja" if _JAPANESE.search(text) else "en")


def _plain(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text)).casefold()
