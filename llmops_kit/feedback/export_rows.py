"""Rows to fine-tune on, in TRL's conversational formats: answers to copy (SFT), answers that are good or bad (KTO).

Each row has the messages that were sent as `prompt`, and says where it comes from. `raters` is how many stand behind the row,
`agreement` their share of all who judged, and `weight` the share expected of the next rater, (for + 1) / (all + 2) (Laplace's rule of
succession): many who agree weigh more than one who is alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from llmops_kit.feedback.material import Material, Opinion
from llmops_kit.types import Run

Row = dict[str, Any]


def make_sft(material: Material, min_raters: int) -> list[Row]:
    """Corrected answers, and answers that most who judged them found good. What was corrected is not itself a target."""
    rows = []
    for run, opinions in _judged(material):
        corrected = _corrections(opinions)
        for text, raters in corrected.items():
            row = _complete(material, run, text, "correction", {rater: opinions[rater] for rater in raters}, sum(map(len, corrected.values())))
            rows += _enough(material, row, min_raters)
        if corrected:
            continue
        good, verdicts = _split(opinions, 1)
        if not verdicts or 2 * len(good) <= len(verdicts):
            material.left_out["not_high" if verdicts else "not_rated"] += 1
        elif reason := unusable(run, target=True):
            material.left_out[reason] += 1
        else:
            rows += _enough(material, _complete(material, run, run.output, "rating", good, len(verdicts)), min_raters)
    return rows


def make_kto(material: Material, min_raters: int) -> list[Row]:
    """Answers with the label of most who judged them (true: good), corrections as good ones. A corrected answer nobody judged is a bad one."""
    rows = []
    for run, opinions in _judged(material):
        corrected = _corrections(opinions)
        for text, raters in corrected.items():
            row = _complete(material, run, text, "correction", {rater: opinions[rater] for rater in raters}, sum(map(len, corrected.values())))
            rows += _enough(material, _label(row, True), min_raters)
        (good, verdicts), (bad, _) = _split(opinions, 1), _split(opinions, -1)
        if not verdicts and corrected:
            bad = verdicts = {rater: opinion for rater, opinion in opinions.items() if opinion.correction}
        label = len(good) > len(bad)
        behind = good if label else bad
        if not verdicts or 2 * len(behind) <= len(verdicts):
            material.left_out["no_majority" if verdicts else "not_rated"] += 1
        elif reason := unusable(run, target=label):
            material.left_out[reason] += 1
        elif run.output.strip() not in corrected:
            rows += _enough(material, _label(_complete(material, run, run.output, "rating", behind, len(verdicts)), label), min_raters)
    return rows


def unusable(run: Run, *, target: bool) -> str | None:
    """Why an answer cannot be trained on: it failed, is empty, or (as a target) was cut off. None where it can."""
    if run.error or not run.output.strip() or not run.messages:
        return "failed"
    return "cut" if target and run.finish_reason in ("length", "cancelled", "content_filter") else None


def describe(run: Run) -> Row:
    """Where a row comes from: the columns that name the Run, the item, the prompt's version and the model's revision."""
    names = ("item", "prompt_name", "prompt_version", "model", "model_revision")
    return {"run_id": run.id} | {name: getattr(run, name) for name in names}


def count_behind(material: Material, raters: Iterable[str], of: int, newest: datetime) -> Row:
    """How many stand behind a row, out of how many, who (as pseudonyms), and when the last of them spoke."""
    names = sorted({material.name_of(rater) for rater in raters})
    supporters = len(set(raters))
    weight = (supporters + 1) / (of + 2)
    facts = {"raters": supporters, "agreement": round(supporters / of, 4), "weight": round(weight, 4), "rater_ids": names}
    return facts | {"created_at": newest.astimezone(UTC).isoformat()}


def say(role: str, text: str) -> list[dict[str, str]]:
    """A list of one chat message."""
    return [{"role": role, "content": text}]


def messages_of(run: Run) -> list[dict[str, str]]:
    """The messages that were sent."""
    return [{"role": turn.role, "content": turn.content} for turn in run.messages]


def _judged(material: Material) -> Sequence[tuple[Run, Mapping[str, Opinion]]]:
    found = [(material.runs[run_id], opinions) for run_id, opinions in material.opinions().items() if material.runs[run_id].messages]
    return sorted(found, key=lambda pair: (pair[0].created_at, pair[0].id))


def _corrections(opinions: Mapping[str, Opinion]) -> dict[str, list[str]]:
    """The raters by the text they corrected the answer to."""
    found: dict[str, list[str]] = {}
    for rater, opinion in opinions.items():
        if opinion.correction:
            found.setdefault(opinion.correction.strip(), []).append(rater)
    return found


def _split(opinions: Mapping[str, Opinion], verdict: int) -> tuple[dict[str, Opinion], dict[str, Opinion]]:
    """The opinions with this verdict, and all that have one."""
    judged = {rater: opinion for rater, opinion in opinions.items() if opinion.verdict is not None}
    return {rater: opinion for rater, opinion in judged.items() if opinion.verdict == verdict}, judged


def _complete(material: Material, run: Run, text: str, source: str, behind: Mapping[str, Opinion], of: int) -> Row:
    newest = max(opinion.at for opinion in behind.values())
    row = {"prompt": messages_of(run), "completion": say("assistant", text), "source": source}
    return row | describe(run) | count_behind(material, behind, of, newest)


def _label(row: Row, label: bool) -> Row:
    return {"prompt": row.pop("prompt"), "completion": row.pop("completion"), "label": label, **row}


def _enough(material: Material, row: Row, min_raters: int) -> list[Row]:
    """The row in a list; an empty list, counted as left out, where too few stand behind it."""
    if row["raters"] >= min_raters:
        return [row]
    material.left_out["few_raters"] += 1
    return []
