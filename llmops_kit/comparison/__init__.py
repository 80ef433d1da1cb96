"""Several models side by side, blind duels, and the ranking that the votes make.

kit.comparison.run("summarize", ["starter-lm", {"model": "starter-lm", "params": {"temperature": 1.0}}], variables={"text": "…"})
table = kit.comparison.batch("summarize", ["starter-lm", "our-style"], "texts.csv")
[pair] = kit.comparison.pairs(table)
kit.comparison.vote(pair, "A")
kit.comparison.ranking(table.attrs["comparison_id"])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.comparison.differences import Piece as Piece
from llmops_kit.comparison.differences import differences as _differences
from llmops_kit.comparison.pairs import Pair as Pair
from llmops_kit.comparison.pairs import make_pair
from llmops_kit.comparison.plan import app_of as app_of
from llmops_kit.comparison.sides import Asked, Documents
from llmops_kit.comparison.sides import SideBySide as SideBySide
from llmops_kit.comparison.variants import Variant as Variant
from llmops_kit.comparison.variants import read_variants as read_variants
from llmops_kit.errors import UnknownName
from llmops_kit.types import Comparison, Door, Run, Vote
from llmops_kit.variants import item_of as item_of
from llmops_kit.variants import variant_of as variant_of
from llmops_kit.votes import newest_of_each

if TYPE_CHECKING:
    import threading

    import pandas as pd

    from llmops_kit.comparison.batch import Step
    from llmops_kit.comparison.boards import Board
    from llmops_kit.comparison.ranking import Ranking
    from llmops_kit.playground import Playground
    from llmops_kit.progress import Progress
    from llmops_kit.store import Store

Runs = list[Run]
Votes = list[Vote]
Pairs = list[Pair]


class Comparisons:
    """The comparisons of a workspace and the votes on their answers."""

    def __init__(self, store: Store, playground: Playground, documents: Callable[[], Documents]) -> None:
        self._store = store
        self._playground = playground
        self._asked = Asked(store, playground, documents)

    # --- answers side by side

    def run(
        self,
        prompt: Any,
        models: Any,
        variables: Mapping[str, Any] | None = None,
        *,
        participant: str | Sequence[str] = "local",
        api_keys: Mapping[str, str] | None = None,
        cancel: threading.Event | None = None,
        **params: Any,
    ) -> SideBySide:
        """Ask 2–4 variants at once and give their answers; it takes as long as the slowest one.

        `prompt` is as in `kit.playground.run`. `models` lists ids, `Variant`s, or mappings such as
        `{"model": "starter-lm", "documents": "handbook", "params": {"temperature": 1.0}}`. A variant with documents answers the
        variable `question`, else the only text variable, else the last message. `params` go for all. `api_keys` (by model id) are
        used and kept nowhere. Setting `cancel` stops every side. A side that fails is a Run with an error; the others go on.

        Raises:
            KitError: `UnknownName`, `MissingVariable`, `InvalidValue` for what was asked; `WorkspaceError` for the disk.
        """
        how: dict[str, Any] = {"participant": participant, "api_keys": api_keys, "params": params}
        return self._asked.run(prompt, models, variables, cancel=cancel, **how)

    def stream(
        self,
        prompt: Any,
        models: Any,
        variables: Mapping[str, Any] | None = None,
        *,
        participant: str | Sequence[str] = "local",
        api_keys: Mapping[str, str] | None = None,
        **params: Any,
    ) -> Iterator[tuple[Run | None, ...]]:
        """As `run`, giving the Runs of all variants again and again while their answers grow (None: not begun); the last are finished.

        Closing the iterator stops every side; their Runs are stored as `cancelled`.
        """
        return self._asked.stream(prompt, models, variables, participant=participant, api_keys=api_keys, params=params)

    def batch(
        self,
        prompt: Any = None,
        models: Any = None,
        rows: Any = None,
        *,
        baseline: str | None = None,
        participant: str | Sequence[str] = "local",
        cancel: threading.Event | None = None,
        resume: str | None = None,
        workers: int = 8,
        api_keys: Mapping[str, str] | None = None,
        progress: Progress | Literal[False] | None = None,
        **params: Any,
    ) -> pd.DataFrame:
        """Let 1–8 variants answer a test set and give a table: one row per item, one column per variant.

        `rows`: mappings, a DataFrame or a file (CSV, JSONL, XLSX). Its columns `item` (an id), `expected` (an acceptable answer per
        line) and `tags` (a list, or separated by commas) are the item's unless the prompt has such a blank. `baseline` is the
        variant that `deltas` compares with (the first). Setting `cancel`, or an interrupt, keeps what is done; `resume` is the id
        of a comparison (`table.attrs["comparison_id"]`) to go on with: what is missing or failed runs (again).

        Raises:
            KitError: `UnknownName` for a prompt or comparison, `InvalidValue` for anything else that does not serve,
                `WorkspaceError` for the disk. A call that fails leaves its cell empty and is told in `table.attrs["errors"]`.
        """
        from llmops_kit.comparison.batch import run_batch

        how: dict[str, Any] = {"baseline": baseline, "participant": participant, "cancel": cancel, "resume": resume, "workers": workers}
        return run_batch(self._asked, progress=progress, prompt=prompt, models=models, rows=rows, api_keys=api_keys, params=params, **how)

    def stream_batch(self, prompt: Any = None, models: Any = None, rows: Any = None, **options: Any) -> Iterator[Step]:
        """As `batch`, giving a `Step` at the start and after each answer; closing the iterator stops it. For faces that draw their own progress."""
        from llmops_kit.comparison.batch import stream_batch

        return stream_batch(self._asked, prompt=prompt, models=models, rows=rows, **options)

    # --- what there is

    def list(self, participant: str | Sequence[str] | None = None) -> pd.DataFrame:
        """One row per comparison, newest first: of one participant, of any of several, or (None) of all."""
        from llmops_kit.comparison.boards import list_comparisons

        return list_comparisons(self._store, participant)

    def get(self, comparison_id: str) -> Comparison:
        """The record of a comparison. Raises: `UnknownName`."""
        return self._asked.load(comparison_id)[0]

    def runs(self, comparison_id: str) -> Runs:
        """All Runs of a comparison, oldest first, failed tries among them. Raises: `UnknownName`."""
        return self._store.find(Run, app=app_of(self.get(comparison_id).id), newest_first=False)

    def table(self, comparison_id: str) -> pd.DataFrame:
        """One row per item: `item`, its variables, `expected` and `tags` where given, and the answer of each variant (None: not there).

        `attrs` has `comparison_id`, `baseline`, `variants`, `total` (cells), `missing` and `errors`. Raises: `UnknownName`.
        """
        from llmops_kit.comparison.boards import compare_table

        return compare_table(self._store, *self._asked.load(comparison_id))

    def show(self, comparison_id: str) -> Board:
        """The table with what differs from the baseline highlighted, for a notebook. Raises: `UnknownName`."""
        from llmops_kit.comparison.boards import Board

        return Board(self.table(comparison_id))

    def deltas(self, comparison_id: str, baseline: str | None = None) -> pd.DataFrame:
        """One row per variant and measure, with the paired difference to the baseline; see `llmops_kit.comparison.deltas`."""
        from llmops_kit.comparison.deltas import compare_variants

        return compare_variants(self._store, *self._asked.load(comparison_id), baseline=baseline)

    def differences(self, a: str, b: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
        """Both texts as stretches (text, `same` or `changed`)."""
        return _differences(a, b)

    # --- votes

    def pairs(self, runs: Any = None, *, rater: str = "local", n: int = 1, seed: int | None = None) -> Pairs:
        """Up to `n` blind pairs for `rater` to judge, those variants and items first that have the fewest votes.

        `runs`: the id or the table of a comparison, several ids, a `SideBySide`, Runs, or None for all comparisons. Answers to different items
        are never put together, nor what failed or is empty, nor a pair this rater voted on; two answers that are the same come last.

        Raises: `UnknownName` for a comparison that is not there.
        """
        from llmops_kit.comparison.drawing import draw_pairs

        return draw_pairs(self._store, runs, rater=rater, n=n, seed=seed)

    def pair(self, left: Run | str, right: Run | str) -> Pair:
        """Two stored answers (or their ids) as a pair, shown in this order.

        Raises: `UnknownName` for a Run that is not there, `InvalidValue` for answers to different items, or one beside itself.
        """
        from llmops_kit.comparison.drawing import find_tags

        one, other = (self._find(each) if isinstance(each, str) else each for each in (left, right))
        return make_pair(one, other, find_tags(self._store, [one])[one.id])

    def vote(
        self,
        pair: Pair | tuple[Run | str, Run | str],
        choice: str,
        *,
        rater: str = "local",
        id: str | None = None,
        comment: str = "",
        duration_s: float | None = None,
        source: Door = "notebook",
        blinded: bool = True,
        campaign_id: str | None = None,
        item_id: str | None = None,
        supersedes: str | None = None,
    ) -> Vote:
        """Say which of a pair is better, and give the vote once it is on the disk. The newest vote of a rater on two answers counts.

        `choice`: `A` (left), `B` (right), `tie`, `both_bad`; also `left`, `right`, the name of a variant or the id of a Run. The
        same `id` sent again is the same vote. `duration_s` is how long the rater looked.

        Raises:
            InvalidValue: the choice is none of these, or the two do not answer the same item.
            NotSaved: the disk refuses; nothing was written, and the same call can be made again.
        """
        from llmops_kit.comparison.voting import keep, make_vote

        shown = pair if isinstance(pair, Pair) else self.pair(*pair)
        more = {"blinded": blinded, "campaign_id": campaign_id, "item_id": item_id, "supersedes": supersedes}
        return keep(self._store, make_vote(shown, choice, rater=rater, id=id, comment=comment, source=source, duration_s=duration_s, **more))

    def withdraw(self, vote: Vote | str, *, rater: str = "local", within_s: float | None = None) -> Vote:
        """Take back a vote of one's own (or its id), with a new event; only within `within_s` seconds of it where given.

        Raises: `UnknownName`, `AccessDenied` for somebody else's, `InvalidValue` when it is too late, `NotSaved` for the disk.
        """
        from llmops_kit.comparison.voting import take_back

        return take_back(self._store, vote, rater=rater, within_s=within_s)

    def votes(self, comparison_id: str | None = None, campaign_id: str | None = None, *, rater: str | None = None, tag: str | None = None) -> Votes:
        """The votes that count, oldest first: changed minds and votes taken back are settled."""
        from llmops_kit.comparison.voting import find_votes

        return find_votes(self._store, app=comparison_id and app_of(comparison_id), campaign_id=campaign_id, rater=rater, tag=tag)

    def votes_table(self, comparison_id: str | None = None, campaign_id: str | None = None, **where: Any) -> pd.DataFrame:
        """The votes that count, one row each, with the name of the winner (None: neither)."""
        from llmops_kit.comparison.boards import votes_table

        return votes_table(self.votes(comparison_id, campaign_id, **where))

    def ranking(
        self,
        comparison_id: str | None = None,
        *,
        campaign_id: str | None = None,
        tag: str | None = None,
        votes: Iterable[Vote] | None = None,
        style_control: bool = False,
        vote_cap: int | None = None,
        exclude_outliers: bool = False,
    ) -> Ranking:
        """The variants by the votes on them, with intervals and a verdict in one sentence; see `llmops_kit.comparison.ranking.rank`.

        Of a comparison, a campaign, the items with a `tag`, or the `votes` given. Who judged two answers in several campaigns counts once,
        by their newest vote. `style_control` takes the length and the form of answers into account. `vote_cap` is how many votes of one rater
        count; `exclude_outliers` leaves raters out who vote against all others.
        """
        from llmops_kit.comparison.ranking import rank

        counted = newest_of_each(self.votes(comparison_id, campaign_id, tag=tag)) if votes is None else [*votes]
        outputs = self._asked.outputs_of(counted) if style_control else None
        return rank(counted, outputs=outputs, style_control=style_control, vote_cap=vote_cap, exclude_outliers=exclude_outliers)

    def _find(self, run_id: str) -> Run:
        found = self._store.get(Run, run_id)
        if found is None:
            raise UnknownName(kind={"en": "run", "ja": "実行"}, name=run_id, known="kit.playground.history()")
        return found
