"""The evaluation rows during a training: loss, accuracy, the rows that are written best and worst, and the answers to the fixed prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_kit.tuning.training.batches import Row
from llmops_kit.tuning.training.sampling import Answer, Prompt, prompts_of, write_answers

if TYPE_CHECKING:
    from llmops_kit.models.turns import TurnEncoder
    from llmops_kit.tuning.training.passes import Passes
    from llmops_kit.tuning.training.preparing import Prepared

_SHOWN = 3


@dataclass(frozen=True)
class Score:
    """Mean loss over the counted tokens of all rows (natural logarithm), share of them that would be chosen first, and each row's mean loss."""

    loss: float | None
    accuracy: float | None
    rows: tuple[float, ...]


def score_rows(passes: Passes, rows: Sequence[Row]) -> Score:
    """The score of a model on rows; None where there are none."""
    if not rows:
        return Score(None, None, ())
    was_training = passes.model.training
    passes.model.eval()
    try:
        losses, hits = passes.measure(rows)
    finally:
        passes.model.train(was_training)
    counts = [row.counts for row in rows]
    total = sum(counts)
    return Score(sum(losses) / total, sum(hits) / total, tuple(loss / count for loss, count in zip(losses, counts, strict=True)))


class Evaluator:
    """Scores and samples with fixed rows and prompts, and tells a job's events about it."""

    def __init__(self, prepared: Prepared, base: Mapping[str, Any]) -> None:
        self._passes, self._encoder, self._rows, self._examples = prepared.passes, prepared.encoder, prepared.eval_rows, prepared.examples
        self._prompts, self._context_tokens = prepared.prompts, prepared.context_tokens
        self._base = list(base["texts"])
        self.before: float | None = base["eval_loss"]
        self.last: Score = Score(None, None, ())
        self.answers: list[Answer] = []

    def evaluate(self, event: Any, step: int, epoch: float) -> None:
        """Score the rows and write the answers; `event` is told."""
        self.last = score_rows(self._passes, self._rows)
        if self.last.loss is not None:
            event("eval", step, eval_loss=self.last.loss, token_accuracy=self.last.accuracy, epoch=epoch)
        self.sample(event, step)

    def sample(self, event: Any, step: int) -> None:
        """Write the answers; `event` is told."""
        self.answers = write_answers(self._passes.model, self._encoder, self._prompts, self._passes.place.device)
        for sample in self.samples():
            event("sample", step, **sample)

    def samples(self) -> list[dict[str, Any]]:
        """What the model wrote last, beside what the base wrote and what the data has."""
        return [
            {
                "prompt": prompt.text,
                "messages": [{"role": turn.role, "content": turn.content} for turn in prompt.messages],
                "expected": prompt.expected,
                "base": before,
                "text": answer.text,
            }
            for prompt, before, answer in zip(self._prompts, self._base, self.answers, strict=True)
        ]

    def show_extremes(self, event: Any, step: int) -> None:
        """Tell which evaluation rows the model finds easiest and hardest, with what it writes."""
        ranked = sorted(range(len(self.last.rows)), key=lambda place: self.last.rows[place])
        best = ranked[: min(_SHOWN, (len(ranked) + 1) // 2)]
        worst = [place for place in reversed(ranked) if place not in best][:_SHOWN]
        chosen = [("best", place) for place in best] + [("worst", place) for place in worst]
        examples = [self._examples[self._rows[place].example] for _, place in chosen]
        prompts = prompts_of(examples, self._encoder, self._context_tokens)
        answers = write_answers(self._passes.model, self._encoder, prompts, self._passes.place.device)
        written = {prompt.messages: answer.text for prompt, answer in zip(prompts, answers, strict=True)}
        for (rank, place), example in zip(chosen, examples, strict=True):
            text = written.get(tuple(example.prompt), "")
            event("example", step, rank=rank, loss=self.last.rows[place], prompt=example.question, expected=example.answer, text=text)

    def figures(self) -> dict[str, Any]:
        """Further figures of the result, beside the losses."""
        return {}

    def ends_by_itself(self) -> bool | None:
        """Whether the first three answers to rows of the data came to their own end; None where there is none to tell by."""
        told = [answer.ended for prompt, answer in zip(self._prompts, self.answers, strict=True) if prompt.expected is not None][:3]
        return all(told) if told else None


def measure_base(passes: Passes, encoder: TurnEncoder, rows: Sequence[Row], prompts: Sequence[Prompt]) -> dict[str, Any]:
    """What the base scores and writes, as plain values. The adapter is left out of it."""
    with passes.model.disable_adapter():
        score = score_rows(passes, rows)
        answers = write_answers(passes.model, encoder, prompts, passes.place.device)
    loss = score.loss if score.loss is None or math.isfinite(score.loss) else None
    return {"eval_loss": loss, "token_accuracy": score.accuracy, "texts": [answer.text for answer in answers]}
