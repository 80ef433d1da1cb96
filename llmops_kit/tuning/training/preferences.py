"""Training on preferences: pairs of answers (DPO) or good and bad answers (KTO), with the checkpoints and events of every training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.errors import InvalidValue
from llmops_kit.models.turns import EncodedRow
from llmops_kit.tuning.presets import resolve
from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.tuning.training.adapters import add_adapter, join_layers
from llmops_kit.tuning.training.batches import Row, make_row
from llmops_kit.tuning.training.evaluating import Evaluator, Score
from llmops_kit.tuning.training.order import Step, shuffle_places
from llmops_kit.tuning.training.place import Place, choose_place, use_all_cores
from llmops_kit.tuning.training.preference_rows import Row as Ids
from llmops_kit.tuning.training.preference_rows import encode_labelled, encode_pairs, pair_for_kl, spread_labels
from llmops_kit.tuning.training.preparing import Prepared, read_data
from llmops_kit.tuning.training.running import Training
from llmops_kit.tuning.training.sampling import choose_prompts

if TYPE_CHECKING:
    from llmops_kit.jobs import Work
    from llmops_kit.tuning import Tuning
    from llmops_kit.tuning.training.passes import Passes

_LEAST_ROWS = {"dpo": 1, "kto": 2}
"""In one pass: KTO compares each answer with another one of its batch."""


@dataclass(frozen=True)
class Plan:
    """The rows of the whole run in their order; each step takes `passes` batches of `batch_rows`, the last one what is left."""

    rows: tuple[Ids, ...]
    steps: tuple[Step, ...]
    batch_rows: int
    passes: int
    evaluation: tuple[Ids, ...]
    casts: bool


def train_preferences(tuning: Tuning, work: Work) -> Mapping[str, Any]:
    """Carry out a `dpo` or `kto` job and give its result; see `train_adapter`.

    Beside the losses the result has `reward_accuracy` and `reward_margin` on the evaluation rows (how often, and by how much, the tuned model
    prefers what people preferred, measured from its base: Rafailov et al. 2023, equation 5), and for pairs `preference_accuracy` with
    `_before`: the share in which the preferred answer is the likelier one.

    Raises: as `train_adapter`; `InvalidValue` for several processes, which preferences are not trained with.
    """
    from llmops_kit.tuning.training.trainer import quiet

    spec = TuneSpec(**work.job.spec)
    if work.processes > 1:
        raise InvalidValue(name="processes", value=work.processes, allowed={"en": "1 for dpo and kto", "ja": "dpoとktoでは1"})
    with quiet():
        prepared, plan = prepare_preferences(tuning, work, spec)
        return PreferenceTraining(tuning, work, prepared, plan).run()


def prepare_preferences(tuning: Tuning, work: Work, spec: TuneSpec) -> tuple[Prepared, Plan]:
    """Read, encode, load. Raises: `InvalidValue` where the rows do not say what the method needs; as `Models.open_trainable`."""
    from llmops_kit.tuning.training.passes import Passes

    method: Literal["dpo", "kto"] = "dpo" if spec.method == "dpo" else "kto"
    dataset = read_data(tuning, spec, work.folder).convert(method)
    models = tuning._models
    encoder, entry = models.turn_encoder(spec.base), models.get(spec.base)
    place = choose_place(vocabulary=len(encoder.tokenizer), exact=True)
    loaded = models.open_trainable(spec.base, dtype=place.dtype, device=place.device)
    use_all_cores()
    context = min(entry.context_tokens, getattr(loaded.model.config, "max_position_embeddings", None) or entry.context_tokens)
    longest = min(spec.max_tokens or context, context)
    train, kept = dataset.split(spec.eval_share, spec.seed)
    encode = encode_pairs if method == "dpo" else encode_labelled
    rows = [row for row in encode(encoder, train, longest) if row is not None]
    pairs = [(example, row) for example, row in zip(kept, encode(encoder, kept, longest), strict=True) if row is not None]
    left_out, evaluation, kept = len(train) - len(rows), [row for _, row in pairs], tuple(example for example, _ in pairs)
    if len(rows) < _LEAST_ROWS[method] or (method == "kto" and len({row["label"] for row in rows}) < 2):
        allowed = {"en": "pairs of answers, or answers of which some are good and some are bad", "ja": "回答の組、または良い回答と悪い回答の両方"}
        raise InvalidValue(name="data", value=dataset.name, allowed=allowed)
    lengths = [_tokens_of(row) for row in rows]
    spec = resolve(spec.change(packing=False), dataset, entry, lengths=lengths)
    tuned = add_adapter(loaded.model, spec)
    joined = join_layers(tuned)
    plan = _plan(rows, evaluation, spec, place, lengths, casts=not joined)
    every = spec.eval_every if spec.eval_every and spec.eval_every <= len(plan.steps) else max(1, round(len(plan.steps) / 4))
    spec = spec.change(eval_every=every, save_every=min(spec.save_every or every, len(plan.steps)))
    good = [example for example in kept or train if example.label is not False] or list(kept or train)
    prepared = Prepared(
        spec=spec, dataset=dataset, encoder=encoder, place=place,
        passes=Passes(tuned, place, encoder.tokenizer.pad_token_id or 0, False, not joined), rows=tuple(_score_rows(rows)), steps=plan.steps,
        eval_rows=tuple(_score_rows(evaluation)), examples=kept, prompts=tuple(choose_prompts(spec, good, encoder, context)),
        context_tokens=context, left_out=left_out,
    )  # fmt: skip
    return prepared, plan


class PreferenceTraining(Training):
    """A training whose steps are TRL's."""

    def __init__(self, tuning: Tuning, work: Work, prepared: Prepared, plan: Plan) -> None:
        self._plan = plan
        super().__init__(tuning, work, prepared)

    def _make_trainer(self) -> Any:
        from llmops_kit.tuning.training.preference_trainer import make_trainer
        from llmops_kit.tuning.training.trainer import AfterStep, without_printing

        prepared, plan = self._prepared, self._plan
        how: dict[str, Any] = {"batch_rows": plan.batch_rows, "passes": plan.passes, "casts": plan.casts}
        trainer = make_trainer(
            prepared.model, prepared.encoder.tokenizer, plan.rows, plan.steps, prepared.spec, prepared.place, self._work.folder / "trainer",
            callbacks=[AfterStep(self._after_step)], **how,
        )  # fmt: skip
        return without_printing(trainer)

    def _find_base(self) -> tuple[dict[str, Any], bool]:
        base, is_new = super()._find_base()
        start = math.log(2) if self._prepared.spec.method == "dpo" else 0.5  # of a model that is its own reference
        return {**base, "eval_loss": start if self._plan.evaluation else None}, is_new

    def _make_evaluator(self, base: Mapping[str, Any]) -> Evaluator:
        return PreferenceEvaluator(self._prepared, base, self._plan.evaluation)


class PreferenceEvaluator(Evaluator):
    """The evaluation rows by the rewards they get: β times how much likelier an answer has become than the base found it."""

    def __init__(self, prepared: Prepared, base: Mapping[str, Any], evaluation: Sequence[Ids]) -> None:
        super().__init__(prepared, base)
        self._beta, self._is_pairs = prepared.spec.beta, prepared.spec.method == "dpo"
        self._labels = [bool(row.get("label", True)) for row in evaluation]
        others = evaluation if self._is_pairs else pair_for_kl(evaluation, max(1, len(evaluation)))
        self._other = _score_rows(others, "rejected_ids" if self._is_pairs else "KL_completion_ids")
        with prepared.model.disable_adapter():
            self._reference = _log_probabilities(prepared.passes, self._rows), _log_probabilities(prepared.passes, self._other)
        self._figures: dict[str, Any] = {}
        if self._is_pairs and evaluation:
            self._figures["preference_accuracy_before"] = _share(one - two for one, two in zip(*self._reference, strict=True))

    def evaluate(self, event: Any, step: int, epoch: float) -> None:
        """Score the rows and write the answers; `event` is told."""
        if self._rows:
            losses, more = self._score()
            self._figures |= more
            self.last = Score(mean(losses), None, tuple(losses))
            event("eval", step, eval_loss=self.last.loss, token_accuracy=None, epoch=epoch, **more)
        self.sample(event, step)

    def figures(self) -> dict[str, Any]:
        """Rewards and preferences on the evaluation rows, before and after."""
        return {name: round(value, 6) for name, value in self._figures.items()}

    def _score(self) -> tuple[list[float], dict[str, float]]:
        """The loss of each row, and what the rewards say of all of them."""
        own, other = _log_probabilities(self._passes, self._rows), _log_probabilities(self._passes, self._other)
        one = [self._beta * (now - before) for now, before in zip(own, self._reference[0], strict=True)]
        two = [self._beta * (now - before) for now, before in zip(other, self._reference[1], strict=True)]
        if self._is_pairs:
            margins = [good - bad for good, bad in zip(one, two, strict=True)]
            likelier = _share(good - bad for good, bad in zip(own, other, strict=True))
            more = {"reward_accuracy": _share(margins), "reward_margin": mean(margins), "preference_accuracy": likelier}
            return [_softplus(-margin) for margin in margins], more
        baseline = max(0.0, mean(two)) if two else 0.0  # KTO's estimate of β · KL(tuned ‖ base), of answers to other prompts
        signs = [1.0 if label else -1.0 for label in self._labels]
        aligned = [sign * reward for sign, reward in zip(signs, one, strict=True)]
        sides = [[reward for reward, label in zip(one, self._labels, strict=True) if label is side] for side in (True, False)]
        more = {"reward_accuracy": _share(aligned)} | ({"reward_margin": mean(sides[0]) - mean(sides[1])} if all(sides) else {})
        return [_sigmoid(-sign * (reward - baseline)) for sign, reward in zip(signs, one, strict=True)], more


def _plan(rows: Sequence[Ids], evaluation: Sequence[Ids], spec: TuneSpec, place: Place, lengths: Sequence[int], *, casts: bool) -> Plan:
    """The order of all rows, and how many make a step: as many as `batch_tokens` holds on average, in passes that fit the place."""
    least = _LEAST_ROWS[spec.method]
    wanted = max(least, round(spec.batch_tokens / mean(lengths)))
    batch_rows = max(least, min(wanted, place.max_tokens // max(lengths)))
    passes = max(1, math.ceil(wanted / batch_rows))
    batch_rows = max(least, math.ceil(wanted / passes))
    ordered: list[Ids] = []
    for epoch in range(math.ceil(spec.epochs)):
        share = min(1.0, spec.epochs - epoch)
        shuffled = [rows[number] for number in shuffle_places(len(rows), spec.seed, epoch)]
        shuffled = spread_labels(shuffled) if spec.method == "kto" else shuffled
        ordered += shuffled[: max(least, round(share * len(rows)))]
    size = batch_rows * passes
    ordered = ordered[: size * spec.max_steps] if spec.max_steps else ordered
    ordered = pair_for_kl(ordered, batch_rows) if spec.method == "kto" else ordered
    steps = [Step((), round(min(spec.epochs, (start + size) / len(rows)), 6)) for start in range(0, len(ordered), size)]
    return Plan(tuple(ordered), tuple(steps), batch_rows, passes, tuple(evaluation), casts)


def _tokens_of(row: Ids) -> int:
    """Tokens that go through the model for a row; of a pair, those of both answers, each after the prompt."""
    answers = [row[name] for name in ("chosen_ids", "rejected_ids", "completion_ids") if name in row]
    return sum(len(row["prompt_ids"]) + len(answer) for answer in answers)


def _score_rows(rows: Sequence[Ids], name: str = "") -> list[Row]:
    """The rows as the evaluation scores them: the named answer (the chosen one, or the only one) after its prompt."""
    made = []
    for place, row in enumerate(rows):
        answer = row[name or ("chosen_ids" if "chosen_ids" in row else "completion_ids")]
        ids = (*row["prompt_ids"], *answer)
        encoded = make_row(EncodedRow(ids, (False,) * len(row["prompt_ids"]) + (True,) * len(answer)), len(ids), weight=1.0, example=place)
        made += [encoded] if encoded is not None else []
    return made


def _log_probabilities(passes: Passes, rows: Sequence[Row]) -> list[float]:
    """The natural-log probability of each row's answer."""
    was_training = passes.model.training
    passes.model.eval()
    try:
        return [-loss for loss in passes.measure(rows)[0]] if rows else []
    finally:
        passes.model.train(was_training)


def _share(values: Any) -> float:
    """How many of the values are above 0; a value of 0 counts half."""
    listed = list(values)
    return sum(0.5 if not value else float(value > 0) for value in listed) / len(listed)


def _sigmoid(value: float) -> float:
    return 0.5 * (1.0 + math.tanh(value / 2.0))


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))
