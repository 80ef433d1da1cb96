"""`Estimate`: what a fine-tuning will take, every line with its formula and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any, Literal

from llmops_kit.tuning.memory import Line

Basis = Literal["formula", "trial", "history"]
_BASES = {
    "formula": {"en": "by formula, at a cautious speed for this kind of machine", "ja": "計算式による見積もり（この種のマシンの控えめな速度）"},
    "trial": {"en": "from a trial of ten steps", "ja": "10ステップの試行による見積もり"},
    "history": {"en": "from earlier jobs on this machine", "ja": "このマシンでの過去のジョブによる見積もり"},
}


@dataclass(frozen=True)
class Estimate:
    """What a spec will take. Gigabytes are 10⁹ bytes, `seconds` the likely time from start to finished adapter, `seconds_range` low and high.

    `tokens` are those trained on in all steps. `cost_usd` is None where no price is set (`LLMOPS_GPU_PRICE_PER_H`). `fits` says whether the
    memory does; `advice` what would, or what to know, by language. `lines` are the sums it is made of.
    """

    steps: int
    tokens: int
    trainable_parameters: int
    memory_gb: float
    available_gb: float
    seconds: float
    seconds_range: tuple[float, float]
    cost_usd: float | None
    device: str
    basis: Basis
    fits: bool
    advice: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()

    @property
    def minutes(self) -> float:
        """The likely time in minutes."""
        return self.seconds / 60

    def plain(self) -> dict[str, Any]:
        """The estimate as plain values, as it is kept with its job."""
        return {**asdict(self), "seconds_range": list(self.seconds_range), "lines": [asdict(line) for line in self.lines]}

    def text(self, language: str = "en") -> str:
        """The estimate in two or three sentences, in `ja` or `en`."""
        low, high = self.seconds_range
        if language.startswith("ja"):
            cost = "" if self.cost_usd is None else f"、費用は約{self.cost_usd:.2f}ドル"
            parts = [
                f"{self.steps:,}ステップ（{self.tokens:,}トークン）、約{format_time(self.seconds, 'ja')}"
                f"（{format_time(low, 'ja')}〜{format_time(high, 'ja')}）{cost}。",
                f"メモリーは約{self.memory_gb:.1f} GB（空き{self.available_gb:.1f} GB、{self.device}）。{_BASES[self.basis]['ja']}。",
                self.advice.get("ja", ""),
            ]
            return "".join(parts)
        cost = "" if self.cost_usd is None else f", about ${self.cost_usd:.2f}"
        parts = [
            f"{self.steps:,} steps ({self.tokens:,} tokens), about {format_time(self.seconds)} ({format_time(low)} to {format_time(high)}){cost}.",
            f"About {self.memory_gb:.1f} GB of memory ({self.available_gb:.1f} GB free, {self.device}); {_BASES[self.basis]['en']}.",
            self.advice.get("en", ""),
        ]
        return " ".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(line.name['ja'])}<br><small>{escape(line.name['en'])}</small></td><td><code>{escape(line.formula)}</code></td>"
            f"<td style='text-align:right'>{escape(format_value(line))}</td></tr>"
            for line in self.lines
        )
        colour = "#047857" if self.fits else "#b45309"
        sentences = "".join(f"<p style='margin:.2em 0;color:{colour}'>{escape(self.text(language))}</p>" for language in ("ja", "en"))
        return f"{sentences}<table>{rows}</table>"


def format_time(seconds: float, language: str = "en") -> str:
    """A duration for people: `40 s`, `3 min`, `1.5 h`."""
    japanese = language.startswith("ja")
    if seconds < 90:
        return f"{max(1, round(seconds))}{'秒' if japanese else ' s'}"
    if seconds < 5400:
        return f"{seconds / 60:.1f}".removesuffix(".0") + ("分" if japanese else " min")
    return f"{seconds / 3600:.1f}".removesuffix(".0") + ("時間" if japanese else " h")


def format_value(line: Line) -> str:
    """The result of a line with its unit."""
    if line.unit == "GB":
        return f"{line.value:.3f} GB" if line.value < 1 else f"{line.value:.2f} GB"
    if line.unit == "s":
        return format_time(line.value)
    if line.unit == "USD":
        return f"${line.value:.2f}"
    return f"{line.value:,.0f} {line.unit}".strip()
