"""The self-test of a model: what was looked at, whether it passed, and what to do where it did not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmops_kit.errors import KitError
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.residents import Resident
from llmops_kit.models.tokenizer import TEST_TEXTS, TokenDifference
from llmops_kit.settings import Settings

if TYPE_CHECKING:
    from llmops_kit.models.embedder import StarterEmbedder

OPENAI_URL = "https://api.openai.com/v1"


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


def check_embedder(entry: ModelEntry, load: Callable[[], StarterEmbedder]) -> CheckResult:
    """Load an embedder, which compares its checksums, and look whether the same meaning in other words is nearer than another one."""
    try:
        embedder = load()
    except KitError as error:
        return fail(entry, error)
    asked, same, other = embedder.encode(["犬が公園で走っています。", "公園を走っている犬がいます。", "電車が駅に止まっています。"])
    passed = bool(asked @ same > asked @ other)
    facts: dict[str, object] = {"dimensions": embedder.dimensions, "revision": embedder.revision}
    if passed:
        return CheckResult(entry.id, True, {"en": "Files and vectors are in order.", "ja": "ファイルとベクトルに問題はありません。"}, facts)
    texts = {"en": "Its vectors do not tell one meaning from another.", "ja": "ベクトルが意味の違いを表していません。"}
    return CheckResult(entry.id, False, texts, facts)


def fail(entry: ModelEntry, error: KitError) -> CheckResult:
    """The result for a model that did not load, or an endpoint that did not answer."""
    differences = error.facts.get("differences", ())
    return CheckResult(
        model=entry.id,
        passed=False,
        texts={"en": error.text("en"), "ja": error.text("ja")},
        differences=differences if isinstance(differences, tuple) else (),
    )


def check_endpoint(entry: ModelEntry, settings: Settings, key: str | None) -> CheckResult:
    """Ask an OpenAI-compatible server for its list of models: costs nothing and tells address, key and name apart."""
    import httpx

    url = f"{entry.base_url or OPENAI_URL}/models"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(settings.request_timeout_s, connect=settings.connect_timeout_s)
    try:
        answer = httpx.get(url, headers=headers, timeout=timeout)
        answer.raise_for_status()
        names = [str(item["id"]) for item in answer.json()["data"]]
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        advice = (" Check the key.", "キーを確かめてください。") if status in (401, 403) else ("", "")
        en, ja = f"The server at {url} answered with status {status}.{advice[0]}", f"{url}の応答が{status}でした。{advice[1]}"
        return CheckResult(entry.id, False, {"en": en, "ja": ja})
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__
        en = f"No list of models came from {url} ({kind}). Check the address."
        return CheckResult(entry.id, False, {"en": en, "ja": f"{url}からモデル一覧を取得できません（{kind}）。アドレスを確かめてください。"})
    if entry.model not in names:
        shown = ", ".join(names[:10])
        en, ja = f"The server at {url} has no model “{entry.model}”; it has: {shown}.", f"{url}にモデル「{entry.model}」はありません。あるもの：{shown}。"
        return CheckResult(entry.id, False, {"en": en, "ja": ja}, {"models": len(names)})
    return CheckResult(entry.id, True, {"en": "The server answers and has the model.", "ja": "サーバーは応答し、モデルもあります。"}, {"models": len(names)})
