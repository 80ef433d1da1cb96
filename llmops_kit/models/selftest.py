"""The self-test of a model: what was looked at, whether it passed, and what to do where it did not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmops_kit.errors import KitError
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.residents import Resident
from llmops_kit.models.tokenizer import TEST_TEXTS, TokenDifference

if TYPE_CHECKING:
    from llmops_kit.models.embedders import Embedder, Reranker


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a model's self-test. `facts` are what was found, `differences` the tokens that were wrong."""

    model: str
    passed: bool
    texts: Mapping[str, str]
    facts: Mapping[str, object] = field(default_factory=dict)
    differences: tuple[TokenDifference, ...] = ()

    def text(self, language: str = "en") -> str:
        """The outcome in a sentence, in `language` (`ja`, else English)."""
        return self.texts["ja" if language.startswith("ja") else "en"]

    def _repr_markdown_(self) -> str:
        lines = [f"**{self.model}** {'✓' if self.passed else '✗'}", self.text("ja"), self.text("en")]
        lines += [f"- {name}: {value}" for name, value in self.facts.items()]
        lines += [f"- `{difference.line()}`" for difference in self.differences]
        return "\n\n".join(lines[:3]) + "\n\n" + "\n".join(lines[3:])


def pass_local(entry: ModelEntry, resident: Resident) -> CheckResult:
    """The result for a model that loaded: loading has compared files, tokens, shapes and numbers."""
    facts: dict[str, object] = {"dtype": resident.dtype, "device": resident.device, "memory_mb": round(resident.memory_mb, 1)}
    if resident.loaded is not None:
        reference = "golden ids" if entry.tokenizer_golden else "sentencepiece / round trip"
        facts["tokenizer"] = f"{entry.tokenizer_loader}, {len(entry.tokenizer_golden) or len(TEST_TEXTS)} texts, {reference}"
        facts["revision"] = resident.loaded.revision
    texts = {"en": "Files, tokenizer and weights are in order.", "ja": "ファイル、トークナイザー、重みに問題はありません。"}
    return CheckResult(entry.id, True, texts, facts)


_MEANINGS = {
    "ja": ("犬が公園で走っています。", "公園を走っている犬がいます。", "電車が駅に止まっています。"),
    "en": ("A dog is running in the park.", "There is a dog that runs through the park.", "The train stands at the station."),
}


def check_embedder(entry: ModelEntry, load: Callable[[], Embedder]) -> CheckResult:
    """Open an embedder and look whether the same meaning in other words is nearer than another one. A server is asked for four vectors."""
    try:
        embedder = load()
        question, *passages = _MEANINGS["ja" if "ja" in embedder.languages or not embedder.languages else "en"]
        same, other = embedder.encode(passages) @ embedder.encode_query(question)
        facts: dict[str, object] = {"dimensions": embedder.dimensions, "revision": embedder.revision}
    except KitError as error:
        return fail(entry, error)
    if same > other:
        return CheckResult(entry.id, True, {"en": "Files and vectors are in order.", "ja": "ファイルとベクトルに問題はありません。"}, facts)
    texts = {"en": "Its vectors do not tell one meaning from another.", "ja": "ベクトルが意味の違いを表していません。"}
    return CheckResult(entry.id, False, texts, facts)


def check_reranker(entry: ModelEntry, load: Callable[[], Reranker]) -> CheckResult:
    """Open a reranker and look whether it scores what says the same above what does not."""
    try:
        reranker = load()
        question, *passages = _MEANINGS["ja" if "ja" in reranker.languages or not reranker.languages else "en"]
        same, other = reranker.score(question, passages)
        facts: dict[str, object] = {"revision": reranker.revision}
    except KitError as error:
        return fail(entry, error)
    if same > other:
        return CheckResult(entry.id, True, {"en": "Files and scores are in order.", "ja": "ファイルとスコアに問題はありません。"}, facts)
    return CheckResult(entry.id, False, {"en": "Its scores do not tell an answer from another text.", "ja": "スコアが答えの違いを表していません。"}, facts)


def fail(entry: ModelEntry, error: KitError) -> CheckResult:
    """The result for a model that did not load, or an endpoint that did not answer."""
    differences = error.facts.get("differences", ())
    return CheckResult(
        model=entry.id,
        passed=False,
        texts={"en": error.text("en"), "ja": error.text("ja")},
        differences=differences if isinstance(differences, tuple) else (),
    )
