"""Base against tuned on the rows that were kept for evaluation: a comparison like any other, whose pairs can be judged blind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.errors import InvalidValue
from llmops_kit.tuning.card import Card, read_card
from llmops_kit.tuning.neighbours import Compares
from llmops_kit.types import Message

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.models import Models
    from llmops_kit.progress import Progress
    from llmops_kit.tuning.dataset import Example


def compare_with_base(
    comparison: Compares,
    models: Models,
    jobs_folder: Path,
    model: str,
    *,
    n: int | None = None,
    owner: str,
    progress: Progress | Literal[False] | None = None,
) -> pd.DataFrame:
    """Let the base and the tuned `model` answer the evaluation rows of the job that made it, greedily, and give the table of the comparison.

    One row per item: `item`, its variables, `expected`, and the two answers. `attrs` has `comparison_id` (for `kit.comparison.pairs`, `vote`,
    `deltas`), `baseline`, and `left_out`: how many rows have another form of conversation than most (a comparison has one prompt) and were
    left out. At most `n` rows, the first ones.

    Raises:
        UnknownName: there is no such model, or it was not tuned here.
        InvalidValue: `n` below 1, or its job kept no rows for evaluation.
        UnreadableFile: the data of its job is gone or was changed.
    """
    if n is not None and n < 1:
        raise InvalidValue(name="n", value=n, allowed="≥ 1")
    card = read_card(models.get(model))
    rows = evaluation_rows(model, card, jobs_folder)
    shape, chosen = choose_shape(rows)
    if not chosen:
        allowed = {"en": "a model whose job kept rows for evaluation (eval_share > 0)", "ja": "評価用の行を残したジョブのモデル（eval_share > 0）"}
        raise InvalidValue(name="model", value=model, allowed=allowed)
    prompt, items = make_items(shape, chosen[:n])
    how: dict[str, Any] = {"baseline": card.base, "participant": owner, "progress": progress, "temperature": 0.0}
    table = comparison.batch(prompt, [card.base, model], items, **how)
    table.attrs["left_out"] = len(rows) - len(chosen)
    return table


def evaluation_rows(model: str, card: Card, jobs_folder: Path) -> tuple[Example, ...]:
    """The rows that the job of `model` kept from training.

    Raises: `InvalidValue` for a model made elsewhere or from scratch, which has no base, `UnreadableFile` where its data is not there any more.
    """
    from llmops_kit.tuning.frozen import read_frozen
    from llmops_kit.tuning.spec import TuneSpec

    if not card.job_id or not card.base:
        raise InvalidValue(name="model", value=model, allowed={"en": "a model tuned in this workspace", "ja": "このワークスペースでチューニングしたモデル"})
    spec = TuneSpec(**card.spec)
    dataset = read_frozen(jobs_folder / card.job_id).convert("sft" if not spec.is_preference else "dpo" if spec.method == "dpo" else "kto")
    return dataset.split(spec.eval_share, spec.seed)[1]


def choose_shape(rows: Sequence[Example]) -> tuple[tuple[str, ...], tuple[Example, ...]]:
    """The sequence of roles that most prompts have, and the rows that have it, each prompt once."""
    counts = Counter(_shape_of(row) for row in rows)
    if not counts:
        return (), ()
    shape = counts.most_common(1)[0][0]
    by_prompt: dict[tuple[Message, ...], Example] = {}
    for row in rows:
        if _shape_of(row) == shape and (row.prompt not in by_prompt or row.label):  # of a good and a bad answer, the good one is expected
            by_prompt[row.prompt] = row
    return shape, tuple(by_prompt.values())


def make_items(shape: Sequence[str], rows: Sequence[Example]) -> tuple[list[Message], list[Mapping[str, str]]]:
    """A chat with a blank for each turn, and what fills the blanks of each row; the last turn is `question`, so that a pair shows it."""
    names = [*(f"turn_{number}" for number in range(1, len(shape))), "question"]
    prompt = [Message(role, f"{{{{{name}}}}}") for role, name in zip(shape, names, strict=True)]  # type: ignore[arg-type]
    items: list[Mapping[str, str]] = []
    for row in rows:
        item = {"item": row.id, **dict(zip(names, (turn.content for turn in row.prompt), strict=True))}
        items.append(item if row.label is False else {**item, "expected": " ".join(row.answer.split("\n"))})  # one line: each would be an answer of its own
    return prompt, items


def _shape_of(row: Example) -> tuple[str, ...]:
    return tuple(turn.role for turn in row.prompt)
