"""How far raters agree: `agree` for ratings, `agree_votes` for votes on pairs.

agree(events).alpha        # Interval(value=0.71, low=0.6, high=0.81, n=100)
agree(events).verdict      # {"en": "…", "ja": "…"}
"""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import UnknownName
from llmops_kit.feedback import agreement_texts as texts
from llmops_kit.feedback.coefficients import alpha, cohen, fleiss, pairable, percent
from llmops_kit.feedback.judgements import Judgement, Judgements, Level, arrange, collect, collect_votes, count_criteria
from llmops_kit.feedback.rater_bias import describe_raters
from llmops_kit.statistics import Interval
from llmops_kit.types import Feedback, Vote

if TYPE_CHECKING:
    import pandas as pd

VOTE = "preference"


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far raters agree by one `criterion`, and what is known of each rater.

    `alpha` is Krippendorff's α with its 95 % interval (n: units that two raters or more rated), `percent` the share of pairs of raters
    that gave the same value, `cohen` and `fleiss` the two κ; what cannot be computed is None, and `notes` say why. `values` counts the
    values that can be paired. `raters` is a table as of `describe_raters`. `verdict` and `notes` are sentences in `en` and `ja`.
    """

    criterion: str
    level: Level
    alpha: Interval | None
    percent: Interval | None
    cohen: float | None
    fleiss: float | None
    n_units: int
    n_raters: int
    values: int
    raters: pd.DataFrame = field(repr=False)
    notes: tuple[Mapping[str, str], ...] = ()
    verdict: Mapping[str, str] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """The coefficients that could be computed: measure, value, low and high (the 95 % interval), n (units)."""
        import pandas as pd

        rows: list[tuple[Any, ...]] = []
        for name, found in ((texts.ALPHA, self.alpha), (texts.PERCENT, self.percent)):
            rows += [] if found is None else [(name, found.value, found.low, found.high, found.n)]
        for name, value in ((texts.COHEN, self.cohen), (texts.FLEISS, self.fleiss)):
            rows += [] if value is None else [(name, value, None, None, self.n_units)]
        frame = pd.DataFrame(rows, columns=["measure", "value", "low", "high", "n"])
        return frame.astype({"value": "float64", "low": "float64", "high": "float64"})

    def _repr_html_(self) -> str:
        lines = [f"<p><b>{html.escape(self.criterion)}</b> ({self.level})</p>"]
        lines += [f"<p>{html.escape(self.verdict[language])}</p>" for language in ("ja", "en")]
        table = self.table.to_html(index=False, escape=True, na_rep="", float_format="{:.3f}".format)
        lines.append(table)
        lines += [f"<p><small>{html.escape(note['ja'])} / {html.escape(note['en'])}</small></p>" for note in self.notes]
        raters = self.raters.to_html(index=False, escape=True, na_rep="")
        return "".join(lines) + f"<details><summary>評価者 / raters: {self.n_raters}</summary>{raters}</details>"


def agree(
    events: Sequence[Feedback],
    *,
    criterion: str | None = None,
    level: str | None = None,
    items: Collection[str] | None = None,
    order: Sequence[Any] | None = None,
    prose: Collection[str] = (),
) -> Agreement:
    """How far the raters of these events (the effective ones) agree on the same answers.

    `criterion` defaults to the one with the most values. `level` is nominal, ordinal or interval, guessed from the values unless given;
    `order` lists the words of an ordinal scale, lowest first. `items` takes only these answers (ids of Runs or campaign items). `prose` are
    criteria known to be free text, on which agreement is not measured; others are guessed.

    Raises:
        UnknownName: nobody rated by this criterion, though there are others.
        InvalidValue: a level the values do not have.
    """
    known = [name for name in count_criteria(events) if name not in prose]
    rated = {name for event in events for name in event.scores}
    if criterion is not None and rated and criterion not in rated:
        raise UnknownName(kind="criterion", name=criterion, known=", ".join(known) or "–")
    name = criterion or next(iter([*known, *sorted(rated)]), "")
    judgements = collect(events, name, items) if name else []
    if judgements and (name in prose or (level is None and order is None and name not in known)):
        return _measure(name, arrange([], name), (texts.PROSE,))
    return _measure(name, arrange(judgements, name, level, order))


def agree_votes(votes: Iterable[Vote]) -> Agreement:
    """How far the raters agree on the same pairs of answers, whichever was on the left; events taken back or replaced do not count.

    Nominal, with the values first (the variant first in the alphabet), second, tie and both_bad.
    """
    found: list[Judgement] = collect_votes(votes)
    return _measure(VOTE, arrange(found, VOTE, "nominal"))


def _measure(criterion: str, data: Judgements, notes: tuple[Mapping[str, str], ...] = ()) -> Agreement:
    counts = data.counts()
    units = pairable(counts)
    found = alpha(counts, data.level, data.numbers)
    words = data.level != "interval"
    kappa, kappa_of_many = (cohen(data), fleiss(counts)) if words else (None, None)
    raters = describe_raters(data)
    if not notes:
        notes = tuple(texts.explain(data, counts, found, kappa, kappa_of_many))
    biased, drifting = int(raters["biased"].sum()), int(raters["drifting"].sum())
    return Agreement(
        criterion=criterion,
        level=data.level,
        alpha=found,
        percent=percent(counts),
        cohen=kappa,
        fleiss=kappa_of_many,
        n_units=len(units),
        n_raters=len(data.raters),
        values=int(units.sum()),
        raters=raters,
        notes=notes,
        verdict=texts.judge(found, len(data.raters), notes, biased, drifting),
    )
