"""What to do where a fine-tuning does not fit the memory: the smallest changes that would make it fit, found by the same formulae."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from llmops_kit.tuning.base_model import Base
from llmops_kit.tuning.budget.rows import Rows
from llmops_kit.tuning.memory import Line, measure_lines
from llmops_kit.tuning.spec import TuneSpec

if TYPE_CHECKING:
    from llmops_kit.tuning.budget.estimate import Estimate

_LEAST_BATCH = 256
_GUESS = {
    "en": "The model is not on this machine yet; its shape was guessed from its size. Download it in the model panel first.",
    "ja": "モデルはまだこのマシンにないため、大きさから形を推定しました。先にモデルパネルでダウンロードしてください。",
}


def advise(base: Base, spec: TuneSpec, rows: Rows, adapter: int, estimate: Estimate) -> Mapping[str, str]:
    """What to know of an estimate: how to make it fit, that its shape is a guess, or nothing."""
    if estimate.fits:
        return dict(_GUESS) if base.folder is None else {"en": "", "ja": ""}
    found = next((change for change in _changes(base, spec, rows) if predict_gb(base, spec.change(**change), rows, adapter) <= estimate.available_gb), None)
    need = {"needs": f"{estimate.memory_gb:.1f}", "has": f"{estimate.available_gb:.1f}"}
    if found is None:
        smaller = "starter-lm" if spec.base != "starter-lm" else ""
        en = "It does not fit: it needs about {needs} GB and {has} GB is free. No setting of this model does; " + (
            f"choose a smaller base, such as {smaller}." if smaller else "close other programs."
        )
        ja = "メモリーに収まりません（必要約{needs} GB、空き{has} GB）。このモデルではどの設定でも収まらないため、" + (
            f"{smaller}など小さいベースを選んでください。" if smaller else "他のプログラムを終了してください。"
        )
        return {"en": en.format(**need), "ja": ja.format(**need)}
    shown = ", ".join(f"{name}={value!r}" for name, value in found.items())
    would = predict_gb(base, spec.change(**found), rows, adapter)
    return {
        "en": f"It does not fit: it needs about {need['needs']} GB and {need['has']} GB is free. With {shown} it would ({would:.1f} GB).",
        "ja": f"メモリーに収まりません（必要約{need['needs']} GB、空き{need['has']} GB）。{shown}にすると収まります（{would:.1f} GB）。",
    }


def memory_lines(base: Base, spec: TuneSpec, rows: Rows, adapter: int) -> tuple[Line, ...]:
    """The lines of the memory of a run; their sum is its peak."""
    return measure_lines(
        base.shape,
        rows.limit(spec.max_tokens).step(spec, most=base.pass_tokens),
        adapter=adapter,
        rank=spec.rank,
        targets=len(base.targets(spec)),
        dtype=base.dtype,
        weights_dtype=base.weights_dtype(spec),
        device=base.device,
        checkpointing=bool(spec.checkpointing),
    )


def predict_gb(base: Base, spec: TuneSpec, rows: Rows, adapter: int) -> float:
    """Gigabytes at the peak, by formula."""
    return sum(line.value for line in memory_lines(base, spec, rows, adapter))


def _changes(base: Base, spec: TuneSpec, rows: Rows) -> Iterator[Mapping[str, object]]:
    """Changes from the one that costs the result least to the one that costs it most."""
    batch = max(_LEAST_BATCH, spec.batch_tokens // 2)
    smaller = [{"batch_tokens": size} for size in _halves(spec.batch_tokens) if size >= max(row.longest for row in rows.train)]
    yield from smaller
    if not spec.checkpointing:
        yield {"checkpointing": True}
        yield from ({**each, "checkpointing": True} for each in smaller)
    shorter = [{"batch_tokens": size, "max_tokens": size, "checkpointing": True} for size in _halves(min(batch, max(row.longest for row in rows.train)))]
    yield from shorter
    if base.device == "cuda" and spec.method == "lora":
        yield {"method": "qlora"}
        yield {"method": "qlora", "checkpointing": True}
        yield from ({**each, "method": "qlora"} for each in shorter)


def _halves(tokens: int) -> Iterator[int]:
    while tokens // 2 >= _LEAST_BATCH:
        tokens //= 2
        yield tokens
