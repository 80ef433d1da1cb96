"""The card of a tuned model: what it was made of, how, by whom, and how well it did; `card.json` in its folder."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import UnknownName
from llmops_kit.models.adapter_files import CARD_FILE
from llmops_kit.models.adapter_files import read_card as read_card_file

if TYPE_CHECKING:
    from llmops_kit.models import ModelEntry

_LIBRARIES = ("llmops_kit", "torch", "transformers", "peft", "trl")
_MOST_SAMPLES = 8
_KINDS: Mapping[str, type] = {"spec": dict, "metrics": dict, "versions": dict, "samples": list, "warnings": list}
_LABELS = (
    ("base", "Base", "ベース"),
    ("base_revision", "Base revision", "ベースの版"),
    ("data", "Data", "データ"),
    ("method", "Method", "方法"),
    ("template_sha256", "Prompt format (hash)", "プロンプト形式（ハッシュ）"),
    ("job_id", "Job", "ジョブ"),
    ("owner", "By", "作成者"),
    ("created_at", "At (UTC)", "日時（UTC）"),
)
_METRIC_LABELS = {
    "eval_loss_before": ("evaluation loss before", "評価損失（前）"),
    "eval_loss": ("evaluation loss after", "評価損失（後）"),
    "steps": ("steps", "ステップ数"),
    "tokens": ("tokens", "トークン数"),
    "seconds": ("seconds", "秒数"),
    "peak_memory_gb": ("peak memory (GB)", "最大メモリ（GB）"),
    "preference_accuracy_before": ("pairs whose preferred answer is the likelier one, before (share)", "好まれた回答の方が確率が高い組の割合（前）"),
    "preference_accuracy": ("pairs whose preferred answer is the likelier one, after (share)", "好まれた回答の方が確率が高い組の割合（後）"),
    "reward_accuracy": ("rows whose reward agrees with people (share)", "報酬が人の評価と一致した割合"),
    "reward_margin": ("reward margin", "報酬の差"),
}


@dataclass(frozen=True)
class Card:
    """What a tuned model is. Times are UTC (ISO 8601), hashes SHA-256 in hexadecimal digits.

    `base` is the catalogue's id of the model it was tuned from and `base_revision` (or `base_fingerprint`, over the files) its exact weights.
    `template_sha256` stands for the prompt format it was trained with: loading it with another one is refused. `warnings` are texts by
    language. Of an adapter made elsewhere, only what is known is filled in.
    """

    base: str
    base_revision: str = ""
    base_fingerprint: str = ""
    template_sha256: str = ""
    data_name: str = ""
    data_sha256: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()
    job_id: str = ""
    owner: str = ""
    created_at: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[Mapping[str, str]] = ()

    @property
    def method(self) -> str:
        """How it was tuned, such as `lora`; empty where unknown."""
        return str(self.spec.get("method", ""))

    def plain(self) -> dict[str, Any]:
        """The card as plain values, in the order of its fields."""
        return dict(json.loads(json.dumps(dataclasses.asdict(self), ensure_ascii=False, default=str)))

    def markdown(self, language: str = "en") -> str:
        """The card as Markdown in `en` or `ja`: what it was made of, its figures, its samples before and after."""
        japanese = language.startswith("ja")
        lines = ["| | |", "|---|---|"]
        for name, en, ja in _LABELS:
            value = f"{self.data_name} ({self.data_sha256[:12]})" if name == "data" and self.data_name else getattr(self, name, "")
            if value:
                lines.append(f"| {ja if japanese else en} | {_cell(value)} |")
        for name, labels in _METRIC_LABELS.items():
            if (value := self.metrics.get(name)) is not None:
                shown = f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
                lines.append(f"| {labels[japanese]} | {_cell(shown)} |")
        lines += [f"- ⚠ {warning['ja' if japanese else 'en']}" for warning in self.warnings]
        if self.samples:
            heads = ("プロンプト", "前", "後") if japanese else ("Prompt", "Before", "After")
            lines += ["", f"| {' | '.join(heads)} |", "|---|---|---|"]
            lines += [f"| {' | '.join(_cell(sample.get(key, '')) for key in ('prompt', 'base', 'text'))} |" for sample in self.samples]
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        return f"{self.markdown('ja')}\n\n{self.markdown('en')}"


def read_card(entry: ModelEntry) -> Card:
    """The card of a tuned model of the catalogue.

    Raises: `UnknownName` for a model that has none, `ModelRefused` for one that cannot be read.
    """
    folder = folder_of(entry)
    raw = None if folder is None else read_card_file(folder)
    if raw is None:
        kind = {"en": "card of a tuned model", "ja": "チューニング済みモデルのカード"}
        raise UnknownName(kind=kind, name=entry.id, known={"en": "models made by kit.tuning", "ja": "kit.tuningで作ったモデル"})
    return card_from(raw)


def card_from(raw: Mapping[str, Any]) -> Card:
    """A card of plain values; what they do not say, or say in another kind of value, is left as unknown."""
    given: dict[str, Any] = {"base": ""}
    for each in dataclasses.fields(Card):
        value, kind = raw.get(each.name), _KINDS.get(each.name, str)
        if isinstance(value, kind):
            given[each.name] = tuple(item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else value
    given["warnings"] = tuple(warning for warning in given.get("warnings", ()) if {"en", "ja"} <= set(warning))
    return Card(**given)


def has_card(entry: ModelEntry) -> bool:
    """Whether the model was tuned here or taken in, so that it has a card."""
    folder = folder_of(entry)
    return folder is not None and (folder / CARD_FILE).is_file()


def write_card(folder: Path, card: Card) -> Path:
    """Write `card.json` into `folder` and give its path."""
    target = folder / CARD_FILE
    target.write_text(json.dumps(card.plain(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return target


def folder_of(entry: ModelEntry) -> Path | None:
    """Where the files of a tuned model lie: its adapter's folder, or that of the whole model; None for a model that is neither."""
    if entry.adapter is not None:
        return Path(entry.adapter)
    return Path(entry.model) if entry.is_local_folder else None


def keep_samples(samples: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The first few samples, with what a card shows of them: prompt, expected answer, and the answers before and after."""
    names = ("prompt", "expected", "base", "text")
    return tuple({name: sample[name] for name in names if sample.get(name) is not None} for sample in samples[:_MOST_SAMPLES])


def find_versions() -> dict[str, str]:
    """The versions of the libraries a tuning depends on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cell(value: object) -> str:
    """A value as the text of a Markdown table's cell: nothing in it is markup."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return "".join(f"\\{sign}" if sign in "|`*_[]~$\\" else sign for sign in text)
