"""Everything a training needs before its first step: data, rows, model with a new adapter, the order of the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import InvalidValue, KitError
from llmops_kit.tuning.frozen import is_frozen, read_frozen
from llmops_kit.tuning.presets import resolve
from llmops_kit.tuning.training.adapters import add_adapter, join_layers
from llmops_kit.tuning.training.batches import Row, make_row
from llmops_kit.tuning.training.order import Step, plan_steps
from llmops_kit.tuning.training.place import Place, choose_place, use_all_cores
from llmops_kit.tuning.training.sampling import Prompt, choose_prompts

if TYPE_CHECKING:
    from llmops_kit.jobs import Work
    from llmops_kit.models.turns import TurnEncoder
    from llmops_kit.tuning import Tuning
    from llmops_kit.tuning.dataset import Dataset, Example
    from llmops_kit.tuning.spec import TuneSpec
    from llmops_kit.tuning.training.passes import Passes


@dataclass(frozen=True)
class Prepared:
    """A training before its first step. `examples` are those kept for evaluation; rows name their example by its place."""

    spec: TuneSpec
    dataset: Dataset
    encoder: TurnEncoder
    place: Place
    passes: Passes
    rows: tuple[Row, ...]
    steps: tuple[Step, ...]
    eval_rows: tuple[Row, ...]
    examples: tuple[Example, ...]
    prompts: tuple[Prompt, ...]
    context_tokens: int
    left_out: int
    """Training rows that the model's template refuses, or of which nothing is left to learn."""

    @property
    def model(self) -> Any:
        """The base with its adapter."""
        return self.passes.model

    @property
    def trainable_parameters(self) -> int:
        """Numbers the adapter has."""
        return sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)


def read_data(tuning: Tuning, spec: TuneSpec, folder: Path) -> Dataset:
    """The rows as they were at the launch, or now where they were not kept. Raises: as `Tuning.read`."""
    if is_frozen(folder):
        return read_frozen(folder)
    return tuning.read(spec.data, columns=spec.columns, encoding=spec.encoding)


def prepare(tuning: Tuning, work: Work, spec: TuneSpec) -> Prepared:
    """Read, encode, load. Raises: `InvalidValue` where nothing is left to train on; as `Models.open_trainable`."""
    from llmops_kit.tuning.training.passes import Passes

    dataset = read_data(tuning, spec, work.folder).convert("sft")
    models = tuning._models
    encoder, entry = models.turn_encoder(spec.base), models.get(spec.base)
    place = choose_place(vocabulary=len(encoder.tokenizer), rank=work.rank, processes=work.processes)
    loaded = models.open_trainable(spec.base, dtype=place.dtype, quantize=spec.method == "qlora", device=place.device)
    use_all_cores(work.processes if place.kind == "cpu" else 1)
    context = min(entry.context_tokens, getattr(loaded.model.config, "max_position_embeddings", None) or entry.context_tokens)
    longest = min(spec.max_tokens or context, context)
    train, kept = dataset.split(spec.eval_share, spec.seed)
    groups = encode_examples(encoder, train, longest)
    rows = tuple(row for group in groups for row in group)
    if not rows:
        allowed = {"en": "rows with an answer that the base's template takes", "ja": "ベースモデルのテンプレートで扱える、回答のある行"}
        raise InvalidValue(name="data", value=dataset.name, allowed=allowed)
    steps = plan_steps(
        [[len(row.ids) for row in group] for group in groups],
        epochs=spec.epochs,
        batch_tokens=spec.batch_tokens,
        seed=spec.seed,
        max_steps=spec.max_steps,
    )
    lengths = [len(row.ids) for row in rows]
    spec = resolve(spec, dataset, entry, steps=len(steps), lengths=lengths)
    tuned = add_adapter(loaded.model, spec)
    joined = join_layers(tuned)
    if spec.checkpointing:
        tuned.get_base_model().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    pad = encoder.tokenizer.pad_token_id or 0
    return Prepared(
        spec=spec,
        dataset=dataset,
        encoder=encoder,
        place=place,
        passes=Passes.choose(tuned, place, pad, rows, packing=spec.packing, casts=not joined),
        rows=rows,
        steps=tuple(steps),
        eval_rows=tuple(row for group in encode_examples(encoder, kept, longest) for row in group),
        examples=kept,
        prompts=tuple(choose_prompts(spec, kept or train, encoder, context)),
        context_tokens=context,
        left_out=sum(not group for group in groups),
    )


def encode_examples(encoder: TurnEncoder, examples: Sequence[Example], max_tokens: int) -> list[list[Row]]:
    """The rows of each example; none where the base's template refuses it."""
    groups = []
    for place, (example, encoded) in enumerate(zip(examples, encoder.try_encode([example.messages for example in examples]), strict=True)):
        found = [] if isinstance(encoded, KitError) else encoded
        made = (make_row(row, max_tokens, weight=example.weight, example=place) for row in found)
        groups.append([row for row in made if row is not None])
    return groups
