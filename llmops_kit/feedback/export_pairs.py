"""Rows of preferences (DPO) in TRL's conversational format: of two answers to the same item, the chosen and the rejected one.

A preference comes from a vote, a ranking, two scores of one rater, or a correction. Each rater counts once per pair of texts, by what
says most: a correction, then a vote, a ranking, a score. More than half of all who judged the pair must prefer one side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

from llmops_kit.feedback.export_rows import Row, count_behind, describe, messages_of, say, unusable
from llmops_kit.feedback.material import Material, Opinion
from llmops_kit.types import Run
from llmops_kit.variants import item_of

_RANK = {"correction": 3, "vote": 2, "ranking": 1, "score": 0}
_MEASURES = ("score", "quality", "thumb")


@dataclass(frozen=True)
class Preference:
    """What one rater thinks of two texts: `better` is 0 or 1 for the place in `texts`, None for neither.

    `runs` are the Runs of the texts; None stands for a text that a person wrote.
    """

    rater: str
    group: str
    texts: tuple[str, str]
    runs: tuple[Run | None, Run | None]
    better: int | None
    source: str
    at: datetime

    def turned(self) -> Preference:
        """The same with the texts in the order of the alphabet, so that both orders are one pair."""
        if self.texts[0] <= self.texts[1]:
            return self
        better = None if self.better is None else 1 - self.better
        return Preference(self.rater, self.group, self.texts[::-1], self.runs[::-1], better, self.source, self.at)


def make_dpo(material: Material, min_raters: int) -> list[Row]:
    """One row per pair of texts that a majority decided, never both directions under the same prompt."""
    pairs: dict[tuple[str, tuple[str, str]], dict[str, Preference]] = {}
    for given in _preferences(material):
        if given.texts[0].strip() == given.texts[1].strip():
            material.left_out["same_text"] += 1
            continue
        preference = given.turned()
        raters = pairs.setdefault((preference.group, preference.texts), {})
        before = raters.get(preference.rater)
        if before is None or (_RANK[before.source], before.at) <= (_RANK[preference.source], preference.at):
            raters[preference.rater] = preference
    rows = [row for raters in pairs.values() for row in _decide(material, list(raters.values()), min_raters)]
    return sorted(_one_direction(material, rows), key=lambda row: (row["created_at"], row["run_id"]))


def _decide(material: Material, given: list[Preference], min_raters: int) -> Iterator[Row]:
    """The row of one pair, if most prefer one side, enough judged it, and its texts can be trained on."""
    sides = [[each for each in given if each.better == side] for side in (0, 1)]
    chosen = int(len(sides[1]) > len(sides[0]))
    behind = sides[chosen]
    if 2 * len(behind) <= len(given):
        material.left_out["no_majority"] += 1
        return
    last = max(behind, key=lambda each: (each.at, _RANK[each.source]))
    better, worse = last.runs[chosen], last.runs[1 - chosen]
    reasons = [unusable(run, target=run is better) for run in (better, worse) if run is not None]
    if reason := next(filter(None, reasons), None):
        material.left_out[reason] += 1
    elif len(behind) < min_raters:
        material.left_out["few_raters"] += 1
    else:
        asked = better or worse
        assert asked is not None
        texts = {"chosen": say("assistant", last.texts[chosen]), "rejected": say("assistant", last.texts[1 - chosen])}
        origin = {f"{name}_run_id": run and run.id for name, run in (("chosen", better), ("rejected", worse))}
        other = {"rejected_model": worse and worse.model, "rejected_model_revision": worse and worse.model_revision}
        counted = count_behind(material, [each.rater for each in behind], len(given), last.at)
        yield {"prompt": messages_of(asked), **texts, "source": last.source} | describe(asked) | origin | other | counted


def _one_direction(material: Material, rows: Iterable[Row]) -> Iterator[Row]:
    """Of rows with the same prompt and texts the one most raters stand behind; none where they contradict each other."""
    same: dict[tuple[str, frozenset[str]], list[Row]] = {}
    for row in rows:
        texts = frozenset(row[side][0]["content"] for side in ("chosen", "rejected"))
        same.setdefault((json.dumps(row["prompt"], ensure_ascii=False), texts), []).append(row)
    for found in same.values():
        if len({row["chosen"][0]["content"] for row in found}) > 1:
            material.left_out["contradictory"] += 1
        else:
            yield max(found, key=lambda row: row["raters"])


def _preferences(material: Material) -> Iterator[Preference]:
    runs = material.runs
    for vote in material.votes:
        left, right = runs[vote.left_run], runs[vote.right_run]
        better = {"A": 0, "B": 1}.get(vote.choice)
        yield Preference(vote.rater, _group(left, right, vote.item), (left.output, right.output), (left, right), better, "vote", vote.created_at)
    for event in material.ratings:
        for value in event.scores.values():
            ranked = [runs[str(each)] for each in value if str(each) in runs] if isinstance(value, (list, tuple)) else []
            for first, second in combinations(ranked, 2):
                group = _group(first, second, event.item_id or "")
                yield Preference(event.rater, group, (first.output, second.output), (first, second), 0, "ranking", event.created_at)
    opinions = material.opinions()
    yield from _from_scores(material, opinions)
    for run_id, raters in opinions.items():
        run = runs[run_id]
        for rater, opinion in raters.items():
            if opinion.correction:
                texts = (opinion.correction.strip(), run.output)
                yield Preference(rater, run.prompt_sha256, texts, (None, run), 0, "correction", opinion.at)


def _from_scores(material: Material, opinions: dict[str, dict[str, Opinion]]) -> Iterator[Preference]:
    """What each rater's scores of answers to the same item say of every two of them."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run_id, raters in opinions.items():
        run = material.runs[run_id]
        for rater in raters:
            groups.setdefault((_item(run), rater), []).append(run)
    for (item, rater), found in groups.items():
        for first, second in combinations(found, 2):
            one, other = opinions[first.id][rater], opinions[second.id][rater]
            measure = next((name for name in _MEASURES if name in one.scores and name in other.scores), None)
            if measure is None:
                continue
            above = one.scores[measure] - other.scores[measure]
            better = None if not above else 0 if above > 0 else 1
            texts, group = (first.output, second.output), _group(first, second, item)
            yield Preference(rater, group, texts, (first, second), better, "score", max(one.at, other.at))


def _item(run: Run) -> str:
    """What the answer answers: the item of its test set, else exactly what was asked."""
    return item_of(run) if run.item else run.prompt_sha256


def _group(first: Run, second: Run, item: str) -> str:
    return first.prompt_sha256 if first.prompt_sha256 == second.prompt_sha256 else item
