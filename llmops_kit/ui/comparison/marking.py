"""Finished answers beside a baseline: what differs is marked, and each has its facts under it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_kit.types import Run
from llmops_kit.ui.comparison import showing
from llmops_kit.ui.panes import brief_of
from llmops_kit.ui.text import Language, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

MOST_CHARS = 20_000
"""Characters of an answer beyond which differences are not marked: finding them takes time in proportion to the square."""
_DECODING_S = 0.02
"""Seconds below which an answer came in one piece, such as that of a reader, and has no speed."""


def show(kit: Kit, runs: Sequence[Run], names: Sequence[str], language: Language, *, baseline: int, marked: bool) -> list[str]:
    """An HTML card for each run. With `marked`, what differs from the baseline is marked; of two answers, in both."""
    base = runs[baseline] if baseline < len(runs) else runs[0]
    shown = []
    for run, name in zip(runs, names, strict=True):
        tag = say("compare.is_baseline", language) if run is base else ""
        told = facts_of(run, language)
        other = next((each for each in runs if each is not run), None) if run is base and len(runs) == 2 else base
        if not marked or other is None or other is run or max(len(run.output), len(other.output)) > MOST_CHARS or not other.output:
            shown.append(showing.show_growing(run, name, told, language, tag=tag))
            continue
        parts = kit.comparison.differences(other.output, run.output)[1]
        shown.append(showing.show_marked(run, name, told, language, parts=parts, tag=tag))
    return shown


def facts_of(run: Run, language: Language) -> str:
    """Times, speed and tokens of an answer, as plain text."""
    parts = [say("facts.ttft", language, value=f"{run.ttft_s:.2f}")] if run.ttft_s is not None else []
    if run.tokens_per_s is not None and (run.latency_s or 0) - (run.ttft_s or 0) > _DECODING_S:
        parts.append(say("facts.speed", language, value=f"{run.tokens_per_s:.0f}"))
    cost = [say("facts.cost", language, value=f"{run.cost:.6f}")] if run.cost is not None else []
    return " · ".join([*parts, brief_of(run, language), *cost])
