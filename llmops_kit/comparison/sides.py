"""Several variants answering one item at the same moment, and their answers side by side."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from llmops_kit.comparison.differences import differences, mark
from llmops_kit.comparison.plan import Cell, Item, Plan, app_of, make_plan, plan_from_spec, question_of
from llmops_kit.comparison.variants import MOST_AT_ONCE, read_variants
from llmops_kit.errors import KitError, WorkspaceError
from llmops_kit.playground.asking import read_variables
from llmops_kit.playground.cells import plan_rows
from llmops_kit.playground.decoding import absent
from llmops_kit.playground.pool import GRACE_S, LOOK_S, follow
from llmops_kit.types import Comparison, Run, Vote, hash_messages, new_id, now

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.playground import Playground
    from llmops_kit.store import Store

Participants = str | Sequence[str]
"""Who asks: one participant, or several names of one person, of which the first is written into the Runs."""
_FACTS = ("latency_s", "ttft_s", "input_tokens", "output_tokens", "cost", "finish_reason", "error")


class Documents(Protocol):
    """What answers from documents: `kit.documents`."""

    def stream(
        self, question: str, *, model: str, collection: str, participant: Participants, app: str, api_key: str | None, run_id: str | None, **params: Any
    ) -> Iterator[Run]:
        """The Run of an answer from a collection, growing; the last one is finished and stored."""


@dataclass(frozen=True)
class SideBySide:
    """The answers of several variants to one item. `wall_s` is how long it took in all, in seconds; in a notebook it shows them with their differences."""

    id: str
    runs: tuple[Run, ...]
    wall_s: float

    def table(self) -> pd.DataFrame:
        """One row per variant: the answer, times in seconds, tokens, cost in US dollars, and how it ended."""
        import pandas as pd

        rows = [{"variant": run.variant, "model": run.model, "output": run.output, **{name: getattr(run, name) for name in _FACTS}} for run in self.runs]
        return pd.DataFrame(rows, columns=["variant", "model", "output", *_FACTS])

    def _repr_html_(self) -> str:
        cell = '<td style="vertical-align:top;text-align:left;white-space:pre-wrap;overflow-wrap:anywhere">{}</td>'
        heads = "".join(f'<th style="text-align:left">{html.escape(run.variant or run.model)}</th>' for run in self.runs)
        texts = "".join(cell.format(text) for text in mark_beside([run.error or run.output for run in self.runs]))
        facts = "".join(cell.format(f"<small>{html.escape(run.facts())}</small>") for run in self.runs)
        table = f'<table style="width:100%;table-layout:fixed"><tr>{heads}</tr><tr>{texts}</tr><tr>{facts}</tr></table>'
        return f"{table}<small>{self.wall_s:.2f} s · <code>{html.escape(self.id)}</code></small>"


def mark_beside(texts: Sequence[str]) -> list[str]:
    """Texts as HTML, each with what differs from the first one marked; of two, the first as well."""
    pairs = [differences(texts[0], text) for text in texts[1:]]
    first = mark(pairs[0][0]) if len(pairs) == 1 else "".join(html.escape(text) for text in texts[:1])
    return [first, *(mark(other) for _, other in pairs)]


class Asked:
    """Asks the variants of a comparison and keeps what it asked."""

    def __init__(self, store: Store, playground: Playground, documents: Callable[[], Documents]) -> None:
        self.store = store
        self.playground = playground
        self._documents = documents

    def run(self, prompt: Any, models: Any, variables: Any, *, cancel: threading.Event | None, **how: Any) -> SideBySide:
        """Ask all and give the answers; see `Comparisons.run`."""
        started = time.perf_counter()
        comparison, plan = self._prepare(prompt, models, variables, how)
        last: tuple[Run | None, ...] = ()
        for last in self._all_at_once(comparison, plan, how, cancel or threading.Event()):  # noqa: B007 - the last one is what is wanted
            pass
        return SideBySide(comparison.id, tuple(run for run in last if run is not None), time.perf_counter() - started)

    def stream(self, prompt: Any, models: Any, variables: Any, **how: Any) -> Iterator[tuple[Run | None, ...]]:
        """As `run`, while the answers grow. What was asked is checked at once, before the first is given."""
        comparison, plan = self._prepare(prompt, models, variables, how)
        return self._all_at_once(comparison, plan, how, threading.Event())

    def answer(
        self,
        comparison: Comparison,
        plan: Plan,
        cell: Cell,
        *,
        run_id: str,
        how: Mapping[str, Any],
        stop: threading.Event,
        grow: Callable[[Run], object] | None = None,
    ) -> Run | None:
        """The finished (or failed) Run of a cell; None where it was stopped. Raises: `WorkspaceError` for a disk that refuses."""
        if stop.is_set():
            return None
        variant, item = plan.variants[cell.variant], plan.items[cell.item]
        told: dict[str, Any] = {"app": app_of(comparison.id), "run_id": run_id, "item": item.id, "variant": variant.name}
        told["api_key"] = (how.get("api_keys") or {}).get(variant.model)
        call = plan.call(cell)
        try:
            if not variant.documents:
                return follow(self.playground.stream(plan.prompt_of(variant), participant=comparison.participant, **call, **told), stop, grow)
            question = question_of(item, plan.prompt_of(variant), self.playground.prompts)
            who = tuple(dict.fromkeys((comparison.participant, *names_of(how["participant"]))))
            asked = {name: value for name, value in call.items() if name != "variables"} | plan.search_params(cell)
            return follow(self._documents().stream(question, collection=variant.documents, participant=who, **asked, **told), stop, grow)
        except WorkspaceError:
            raise
        except KitError as error:  # refused before the model was asked, such as for a collection that is not there
            run = Run(
                created_at=now(), participant=comparison.participant, model=variant.model, messages=(), prompt_sha256=hash_messages(()),
                variables=call["variables"], error=str(error), finish_reason="error", id=run_id, **{name: told[name] for name in ("app", "item", "variant")},
            )  # fmt: skip
            self.store.append(run, publish="run")
            return run

    def load(self, comparison_id: str) -> tuple[Comparison, Plan]:
        """A stored comparison and its plan. Raises: `UnknownName`."""
        comparison = self.store.get(Comparison, comparison_id)
        if comparison is None:
            raise absent(comparison_id, en="comparison", ja="比較", known=[recent.id for recent in self.store.find(Comparison, limit=3)])
        return comparison, plan_from_spec(comparison.spec)

    def outputs_of(self, votes: Iterable[Vote]) -> dict[str, str]:
        """The answers that votes are about, as they were shown, by Run id."""
        ids = {id for vote in votes for id in (vote.left_run, vote.right_run)}
        return dict(self.store.values(Run, ("id", "output"), id=ids))

    def _prepare(self, prompt: Any, models: Any, variables: Any, how: Mapping[str, Any]) -> tuple[Comparison, Plan]:
        variants = read_variants(models, least=2, most=MOST_AT_ONCE)
        item = Item("1", plan_rows([read_variables(variables)])[0])
        library = self.playground.prompts
        plan = make_plan(prompt, variants, item, how.get("params"), library)
        for variant in plan.variants:  # an empty blank is told at once, not by every side
            asked = plan.prompt_of(variant)
            if variant.documents:
                question_of(item, asked, library)
            elif asked.name:
                library.render(asked, item.variables)
        return Comparison(new_id(), now(), names_of(how["participant"])[0], plan.spec()), plan

    def _all_at_once(self, comparison: Comparison, plan: Plan, how: Mapping[str, Any], cancel: threading.Event) -> Iterator[tuple[Run | None, ...]]:
        """All sides in threads of their own; what they have whenever that changed."""
        self.store.append(comparison, publish="comparison")
        ids = [plan.run_id(comparison.id, cell, 0) for cell in plan.cells()]
        latest: list[Run | None] = [None] * len(ids)
        stop, changed = threading.Event(), threading.Event()

        def answer(place: int) -> None:
            def grow(run: Run | None) -> None:
                latest[place] = run or latest[place]
                changed.set()

            grow(self.answer(comparison, plan, Cell(0, place), run_id=ids[place], how=how, stop=stop, grow=grow))

        pool = ThreadPoolExecutor(len(ids), thread_name_prefix="side")
        calls = [pool.submit(answer, place) for place in range(len(ids))]
        try:
            while not cancel.is_set() and not _all_done(calls):
                if changed.wait(LOOK_S):
                    changed.clear()
                    yield tuple(latest)
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            wait(calls, timeout=GRACE_S)
        if cancel.is_set():  # the Runs as they were stored when they stopped
            kept = {run.id: run for run in self.store.find(Run, id=ids)}
            latest = [kept.get(id, run) for id, run in zip(ids, latest, strict=True)]
        yield tuple(latest)


def names_of(participant: Participants) -> tuple[str, ...]:
    """The names of who asks, as a tuple."""
    return (participant,) if isinstance(participant, str) else tuple(participant)


def _all_done(calls: Iterable[Future[None]]) -> bool:
    """Whether every side has ended. Raises: what went wrong beneath one of them."""
    ended = [call for call in calls if call.done()]
    for call in ended:
        call.result()
    return len(ended) == len(list(calls))
