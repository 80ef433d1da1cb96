"""What an export is made from: the ratings and votes that count, with the Runs they are about, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llmops_kit.feedback import events
from llmops_kit.feedback.rubrics import PRESETS
from llmops_kit.pseudonyms import pseudonym, pseudonym_key
from llmops_kit.types import Feedback, Run, Vote
from llmops_kit.votes import effective

if TYPE_CHECKING:
    from llmops_kit.store import Store

REASONS: Mapping[str, Mapping[str, str]] = {
    "skipped": {"en": "skipped by the rater", "ja": "評価者がスキップ"},
    "no_consent": {"en": "rater has not consented", "ja": "評価者の同意なし"},
    "no_run": {"en": "the answer is not in the store", "ja": "回答が保存されていない"},
    "not_rated": {"en": "no score, thumb or correction", "ja": "点数・👍👎・修正がない"},
    "not_high": {"en": "not rated highly by a majority", "ja": "過半数の高評価がない"},
    "no_majority": {"en": "no majority for one side", "ja": "過半数の支持がない"},
    "few_raters": {"en": "too few raters", "ja": "評価者数が不足"},
    "failed": {"en": "failed or empty answer", "ja": "失敗または空の回答"},
    "cut": {"en": "answer cut off, not a target", "ja": "途中で切れた回答"},
    "same_text": {"en": "both texts are the same", "ja": "両方の文章が同じ"},
    "contradictory": {"en": "preferred both ways under the same prompt", "ja": "同じ入力で支持が逆の組がある"},
}
"""Why something is not in an export."""
_QUALITY = tuple(criterion.name for criterion in PRESETS["quality"].criteria if criterion.type == "ordinal")
_HIGH, _LOW = 4, 2      # of 5


@dataclass(frozen=True)
class Material:
    """The effective `ratings` and `votes`, the `runs` they are about by id, and `left_out`, which counts what was not taken by reason.

    `name_of` gives what stands for a rater in the export.
    """

    ratings: tuple[Feedback, ...]
    votes: tuple[Vote, ...]
    runs: Mapping[str, Run]
    name_of: Callable[[str], str]
    left_out: Counter[str] = field(default_factory=Counter)

    def opinions(self) -> dict[str, dict[str, Opinion]]:
        """By Run and rater what each thinks of it, the newest word on each criterion."""
        found: dict[str, dict[str, Opinion]] = {}
        for event in self.ratings:
            raters = found.setdefault(event.run_id, {})
            before = raters.get(event.rater)
            scores = {**(before.scores if before else {}), **_measures(event.scores)}
            correction = event.correction if event.correction and event.correction.strip() else before.correction if before else None
            raters[event.rater] = Opinion(scores, correction, event.created_at)
        return found


@dataclass(frozen=True)
class Opinion:
    """What one rater thinks of one answer: `scores` by measure (`thumb`, `score`, `quality`), the corrected answer, and when it was said last."""

    scores: Mapping[str, float]
    correction: str | None
    at: datetime

    @property
    def verdict(self) -> int | None:
        """1 for a good answer (👍, or 4 and more of 5), -1 for a bad one (👎, 2 and less, harmful), 0 for neither, None where it was not judged.

        A thumb and a score that contradict each other are neither.
        """
        if self.scores.get("harmful"):
            return -1
        signs = {_sign(name, value) for name, value in self.scores.items() if name != "harmful"}   # no harm does not make an answer good
        if not signs:
            return None
        return signs.pop() if len(signs) == 1 else sum(signs) if signs in ({0, 1}, {0, -1}) else 0


def gather(
    store: Store,
    campaign: str | None,
    comparison: str | None,
    prompts: Collection[str] | None,
    participants: Collection[str] | None,
    consent: Collection[str] | None,
    pseudonyms: bool,
) -> Material:
    """Read what counts. See `export` for what the arguments mean."""
    where: dict[str, Any] = {} if campaign is None else {"campaign_id": campaign}
    said = store.find(Feedback, newest_first=False, **where)
    ratings, votes = events.effective(said), effective(store.find(Vote, newest_first=False, **where))
    ids = {event.run_id for event in said} | {run for vote in votes for run in (vote.left_run, vote.right_run)}
    ids |= {str(run) for event in ratings for value in event.scores.values() if isinstance(value, (list, tuple)) for run in value}
    runs = {run.id: run for run in store.find(Run, id=sorted(ids))} if ids else {}
    left_out: Counter[str] = Counter()

    def is_wanted(rater: str, *run_ids: str) -> bool:
        answers = [runs[each] for each in run_ids if each in runs]
        if len(answers) < len(run_ids):
            left_out["no_run"] += comparison is None and prompts is None and participants is None
            return False
        if comparison is not None and any(run.app != f"compare:{comparison}" for run in answers):
            return False
        if prompts is not None and not any(run.prompt_name in prompts for run in answers):
            return False
        if participants is not None and any(run.participant not in participants for run in answers):
            return False
        if consent is not None and rater not in consent:
            left_out["no_consent"] += 1
            return False
        return True

    left_out["skipped"] += sum(event.skipped is not None and not event.withdrawn and is_wanted(event.rater, event.run_id) for event in said)
    kept = tuple(event for event in ratings if is_wanted(event.rater, event.run_id))
    chosen = tuple(vote for vote in votes if is_wanted(vote.rater, vote.left_run, vote.right_run))
    key = pseudonym_key(store) if pseudonyms else b""
    return Material(kept, chosen, runs, (lambda rater: pseudonym(key, rater)) if pseudonyms else str, left_out)


def _measures(scores: Mapping[str, Any]) -> dict[str, float]:
    """The scores that say good or bad: thumb, score, the mean of the quality rubric, harmful. What other rubrics mean is not known."""
    found = {name: float(scores[name]) for name in ("thumb", "score", "harmful") if isinstance(scores.get(name), (bool, int, float))}
    parts = [float(scores[name]) for name in _QUALITY if isinstance(scores.get(name), (int, float))]
    return found | ({"quality": sum(parts) / len(parts)} if len(parts) == len(_QUALITY) else {})


def _sign(name: str, value: float) -> int:
    if name == "thumb":
        return 1 if value > 0 else -1
    return 1 if value >= _HIGH else -1 if value <= _LOW else 0
