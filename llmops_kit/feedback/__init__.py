"""Ratings, campaigns of ratings, how far raters agree, and the data made from what they said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.access import LOCAL
from llmops_kit.errors import InvalidValue
from llmops_kit.feedback import campaigns as _campaigns
from llmops_kit.feedback import rating as _rating
from llmops_kit.feedback.entries import check_rater, saved
from llmops_kit.feedback.events import effective
from llmops_kit.feedback.queue import Queue, no_campaign
from llmops_kit.feedback.submitting import Desk, withdraw_thumb
from llmops_kit.feedback.tasks import Progress, Task
from llmops_kit.types import Artifact, Campaign, Door, Feedback, Run, Vote, now

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.feedback.agreement import Agreement
    from llmops_kit.feedback.export import ExportReport
    from llmops_kit.feedback.importing import Answers
    from llmops_kit.feedback.rubrics import Rubric
    from llmops_kit.store import Store

    RubricLike = Rubric | str | Mapping[str, Any] | Sequence[Any]


class Ratings:
    """What people say of answers. Safe to share between threads.

    A rating is an event, durable when the call returns; a changed mind is a new event. Whoever sends one again under the same `id`
    has not rated twice. Raises `NotSaved` from everything that writes where the disk refuses; then nothing was written.
    """

    def __init__(self, store: Store, *, clock: Callable[[], datetime] = now) -> None:
        self._store = store
        self._clock = clock
        self._queue = Queue(store, clock)
        self._desk = Desk(store, self._queue, clock)

    def rate(
        self,
        run: Run | str,
        score: Any = None,
        *,
        rater: str = LOCAL,
        thumb: Any = None,
        rubric: Mapping[str, Any] | None = None,
        using: RubricLike | None = None,
        comment: str = "",
        correction: str | None = None,
        tags: str | Sequence[str] = (),
        id: str | None = None,
        source: Door = "notebook",
        duration_s: float | None = None,
    ) -> Feedback:
        """Rate an answer: `score` 1 to 5, `thumb` True or False (or 1, -1), `rubric` criterion → value, words, a corrected answer.

        Digits may be full width. `using` is the rubric the criteria are from (default: the presets'). `id` is the caller's, so that a
        retry is the same rating. `duration_s` are seconds the rater took.

        Raises:
            UnknownName: a run or criterion that is not there.
            InvalidValue: nothing given, a value outside its scale, text longer than is kept; nothing is cut.
            NotSaved: the disk refuses.
        """
        said: dict[str, Any] = {"score": score, "thumb": thumb, "rubric": rubric, "using": using, "comment": comment, "correction": correction}
        with saved():
            run_id = run.id if isinstance(run, Run) else str(run)
            facts: dict[str, Any] = {"rater": rater, "tags": tags, "id": id, "source": source, "duration_s": duration_s}
            return _rating.append_once(self._store, _rating.make_rating(run_id, self._clock(), **said, **facts))

    def withdraw(self, feedback_id: str, *, rater: str = LOCAL) -> Feedback | Vote:
        """Take back one's own rating, or vote of a campaign; what one had said before counts again. The event that says so; twice is once.

        Raises: `UnknownName`, `AccessDenied` for somebody else's, `InputError` where its campaign is closed, `NotSaved`.
        """
        with saved():
            return self._desk.withdraw(feedback_id, rater)

    def withdraw_thumb(self, run: Run | str, *, rater: str = LOCAL) -> list[Feedback]:
        """Take back the thumb given outside campaigns; a comment given with it stays. Raises: `UnknownName`, `NotSaved`."""
        with saved():
            return withdraw_thumb(self._store, _rating.check_run(self._store, run), rater, self._clock())

    def thumb_of(self, run: Run | str, *, rater: str = LOCAL) -> int:
        """The thumb that stands outside campaigns: 1, -1, or 0 for none."""
        run_id = run.id if isinstance(run, Run) else run
        events = [event for event in self._store.find(Feedback, run_id=run_id, rater=rater) if event.campaign_id is None]
        return next((int(event.scores["thumb"]) for event in effective(events) if event.scores.get("thumb")), 0)

    def events(self, run: Run | str | None = None, campaign: Campaign | str | None = None, *, every: bool = False) -> list[Feedback]:
        """The ratings that count, oldest first: of one answer, of one campaign, or all. `every=True`: all events as they came."""
        where: dict[str, Any] = {} if run is None else {"run_id": run.id if isinstance(run, Run) else run}
        where |= {} if campaign is None else {"campaign_id": _id(campaign)}
        found = self._store.find(Feedback, newest_first=False, **where)
        return found if every else effective(found)

    def table(self, run: Run | str | None = None, campaign: Campaign | str | None = None, *, every: bool = False) -> pd.DataFrame:
        """The ratings that count, newest first, one row per event; `every=True` has all events, also skipped and withdrawn ones.

        Rater ids are as they are: this is the workspace's own view. `export` has pseudonyms.
        """
        from llmops_kit.feedback.table import make_table

        return make_table(self.events(run, campaign, every=every))

    def create(
        self,
        name: str,
        runs: Iterable[Run | str] | None = None,
        *,
        path: str | Path | None = None,
        comparison: str | None = None,
        rubric: RubricLike | None = None,
        guidelines: str = "",
        k: int = 2,
        raters: str | Iterable[str] | None = None,
        timeout_s: float = 900,
        kind: str = "rate",
        owner: str = LOCAL,
        shuffle: bool = True,
        blind: bool = True,
        id: str | None = None,
    ) -> Campaign:
        """Start a campaign over `runs`, over the answers of a `comparison`, or over a file of answers made elsewhere (`path`).

        `kind`: `rate` (one answer at a time), `pairwise` or `ranking` (answers to the same item beside each other). `rubric` is a preset
        (`thumb`, `score`, `quality`), YAML, or criteria; `guidelines` Markdown. Every item is rated by `k` people. `raters`: None is
        everybody, `others` everybody but the owner, or a list of ids. An item that was not rated after `timeout_s` seconds goes to
        somebody else. `blind`: raters are not told what answered. Failed and empty answers are left out (`spec["left_out"]`).

        Raises: `InvalidValue`, `UnknownName`, `UnreadableFile`, `NotSaved`.
        """
        asked: dict[str, Any] = {"rubric": rubric, "guidelines": guidelines, "k": k, "raters": raters, "timeout_s": timeout_s, "kind": kind}
        with saved():
            chosen, source, tags = self._choose(runs, path, comparison, owner)
            more: dict[str, Any] = {"name": name, "owner": owner, "shuffle": shuffle, "blind": blind, "source": source}
            return _campaigns.create(self._store, chosen, self._clock(), id=id, tags=tags, **asked, **more)

    def _choose(
        self, runs: Iterable[Run | str] | None, path: str | Path | None, comparison: str | None, owner: str
    ) -> tuple[list[Run], dict[str, Any] | None, Mapping[str, Sequence[str]]]:
        if sum(given is not None for given in (runs, path, comparison)) != 1:
            raise InvalidValue(name="runs", value="", allowed={"en": "one of runs=, path=, comparison=", "ja": "runs=、path=、comparison=のいずれか1つ"})
        if path is not None:
            answers = self.import_answers(path, participant=owner)
            source = {"file": answers.file, "left_out": [{"en": problem.text("en"), "ja": problem.text("ja")} for problem in answers.problems]}
            return list(answers), source, {}
        if comparison is not None:
            found, tags = _campaigns.find_comparison(self._store, comparison)
            return found, {"comparison": comparison}, tags
        return _campaigns.find_runs(self._store, runs or ()), None, {}

    def campaign(self, campaign: Campaign | str) -> Campaign:
        """The campaign as it is now. Raises: `UnknownName`."""
        found = self._store.get(Campaign, _id(campaign))
        if found is None:
            raise no_campaign(_id(campaign))
        return found

    def campaigns(self, rater: str | None = None) -> pd.DataFrame:
        """One row per campaign, newest first; with `rater` only those that are for this person or their own."""
        return _campaigns.list_campaigns(self._store, rater)

    def next(self, campaign: Campaign | str, *, rater: str = LOCAL, after: str | None = None) -> Task | None:
        """The next item for this rater, theirs until its deadline; the same one until they rate or skip it. None where there is nothing now.

        Items that have some ratings come first, so that overlap is reached early. With `after` (an item id) the one the rater had next
        after it, if there is one. Raises: `UnknownName`, `AccessDenied`, `InputError` where the campaign is closed, `NotSaved`.
        """
        with saved():
            return self._queue.next(_id(campaign), check_rater(rater), after)

    def previous(self, campaign: Campaign | str, *, rater: str = LOCAL, before: str | None = None) -> Task | None:
        """The item the rater had before the item `before` (None: their last one), with what they said of it; None at the first."""
        return self._queue.previous(_id(campaign), rater, before)

    def task(self, campaign: Campaign | str, item: str, *, rater: str = LOCAL) -> Task:
        """An item that was given to this rater, once more. Raises: `AccessDenied` for one that was not."""
        return self._queue.task(_id(campaign), item, rater)

    def submit(
        self,
        task: Task,
        scores: Any,
        *,
        rater: str | None = None,
        comment: str = "",
        correction: str | None = None,
        tags: str | Sequence[str] = (),
        id: str | None = None,
        source: Door = "campaign",
        duration_s: float | None = None,
    ) -> Feedback | Vote:
        """Rate a task: criterion → value (or the bare value of the only one), a choice of a pair (`A`, `B`, `tie`, `both_bad`), or an order.

        An order is run ids or letters as shown, best first. Sent for an item rated before, it replaces that. After the deadline it is
        saved as well; if the item has its k ratings by then, with the flag `late` and not among the k.

        Raises: `InvalidValue`, `UnknownName`, `AccessDenied`, `InputError` where the campaign is closed, `NotSaved`.
        """
        said: dict[str, Any] = {"comment": comment, "correction": correction, "tags": tags, "id": id}
        with saved():
            return self._desk.submit(task, scores, rater=rater, source=source, duration_s=duration_s, **said)

    def skip(
        self, task: Task, reason: str, *, rater: str | None = None, id: str | None = None, source: Door = "campaign", duration_s: float | None = None
    ) -> Feedback:
        """Pass over a task, saying why; it goes on to others. Raises: as `submit`."""
        with saved():
            return self._desk.skip(task, reason, rater=rater, id=id, source=source, duration_s=duration_s)

    def progress(self, campaign: Campaign | str, rater: str | None = None) -> Progress:
        """How far the rater and the whole campaign are. Other processes' ratings are seen after a second or so."""
        return self._queue.progress(_id(campaign), rater)

    def close(self, campaign: Campaign | str, *, by: str = LOCAL) -> Artifact:
        """End a campaign: no more ratings; what counts becomes an artifact with its hash, its inputs and the agreement. Twice is once.

        Raises: `AccessDenied` for anybody but the owner, `UnknownName`, `NotSaved`.
        """
        from llmops_kit.feedback.closing import close

        with saved():
            return close(self._store, self.campaign(campaign), by, self._clock)

    def agreement(self, campaign: Campaign | str | None = None, criterion: str | None = None, level: str | None = None) -> Agreement:
        """How far raters agree by a criterion (in a campaign by default its first), see `agreement.Agreement`; in one of pairs, their votes.

        `level`: nominal, ordinal or interval, by default the rubric's or guessed. Raises: `UnknownName`, `InvalidValue`.
        """
        from llmops_kit.feedback.measuring import measure

        return measure(self._store, None if campaign is None else self.campaign(campaign), criterion, level)

    def disagreements(self, campaign: Campaign | str | None = None, criterion: str | None = None, n: int = 20) -> pd.DataFrame:
        """The `n` answers (in a campaign of pairs: pairs) people disagree on most, with how they were rated and what was said."""
        from llmops_kit.feedback.measuring import disputed

        return disputed(self._store, None if campaign is None else self.campaign(campaign), criterion, n)

    def export(self, kind: str, path: str | Path, campaign: Campaign | str | None = None, **how: Any) -> ExportReport:
        """Write what people said as `sft`, `dpo`, `kto` (JSON lines) or `table` (CSV, XLSX, Parquet, JSON lines); see `export.export`."""
        from llmops_kit.feedback.export import export

        with saved():
            return export(self._store, kind, path, campaign=None if campaign is None else self.campaign(campaign).id, **how)

    def import_answers(self, path: str | Path | bytes, *, participant: str = LOCAL, **how: Any) -> Answers:
        """Take in answers made elsewhere (CSV, TSV, XLSX, JSON lines) as Runs; see `importing.import_answers` for the columns.

        Rows that do not serve are left out and named in `.problems`. Raises: `UnreadableFile`, `UnknownName`, `NotSaved`.
        """
        from llmops_kit.feedback.importing import import_answers

        with saved():
            return import_answers(self._store, path, self._clock(), participant=participant, **how)


def _id(campaign: Campaign | str) -> str:
    return campaign.id if isinstance(campaign, Campaign) else campaign
