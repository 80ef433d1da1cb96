"""The child of a trial: `python -m llmops_kit.tuning.budget.trial_steps FOLDER` runs ten steps and writes what it measured after each."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import KitError
from llmops_kit.jobs.limits import give_way
from llmops_kit.settings import Settings
from llmops_kit.tuning.budget.trial import RESULT_FILE, SPEC_FILE, STEPS
from llmops_kit.tuning.frozen import read_frozen
from llmops_kit.tuning.peak import peak_memory_gb
from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.types import Message

if TYPE_CHECKING:
    from llmops_kit.models.turns import TurnEncoder
    from llmops_kit.tuning.dataset import Dataset
    from llmops_kit.tuning.training.batches import Row


def main(folder: Path) -> int:
    """Run the steps; the exit code (0: at least one was done)."""
    spec = TuneSpec(**json.loads((folder / SPEC_FILE).read_text(encoding="utf-8")))
    give_way(0)  # as a job does, so that the speed is that of a job beside whatever else runs
    told: dict[str, Any] = {"steps": 0}
    try:
        _run(folder, spec, told)
    except KitError as error:
        told["reason"] = {"en": error.text("en"), "ja": error.text("ja")}
    except (MemoryError, RuntimeError) as error:  # torch says so in a RuntimeError
        told["out_of_memory"] = isinstance(error, MemoryError) or "memory" in str(error).lower()
        told["reason"] = " ".join(str(error).split())[:200]
    _write(folder, told)
    return 0 if told["steps"] else 1


def _run(folder: Path, spec: TuneSpec, told: dict[str, Any]) -> None:
    import torch

    from llmops_kit.models import Models
    from llmops_kit.tuning.training.adapters import add_adapter, join_layers
    from llmops_kit.tuning.training.passes import Passes
    from llmops_kit.tuning.training.place import choose_place, use_all_cores

    models = Models(Settings.model_validate({}))
    encoder = models.turn_encoder(spec.base)
    rows = _encode(read_frozen(folder), spec, encoder)
    place = choose_place(vocabulary=len(encoder.tokenizer), exact=spec.is_preference)
    told["device"] = place.kind
    use_all_cores()
    loaded = models.open_trainable(spec.base, dtype=place.dtype, quantize=spec.method == "qlora", device=place.device)
    if spec.checkpointing:
        loaded.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        loaded.model.enable_input_require_grads()
    model = add_adapter(loaded.model, spec)
    joined = join_layers(model)
    pad = encoder.tokenizer.pad_token_id or 0
    passes = Passes.choose(model, place, pad, rows, packing=spec.packing, casts=not joined)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-6)
    model.train()
    seconds, tokens = 0.0, 0
    for number, batch in enumerate(_batches(rows, spec), 1):
        began = time.perf_counter()
        if spec.is_preference:
            with model.disable_adapter():
                passes.measure(batch)
        passes.train(batch, float(sum(row.counts for row in batch)))
        torch.nn.utils.clip_grad_norm_(trained, spec.max_grad_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        took, done = time.perf_counter() - began, sum(len(row.ids) for row in batch)
        if number > 1:  # the first one also sets things up
            seconds, tokens = seconds + took, tokens + done
        told |= {"steps": number, "tokens_per_s": tokens / seconds if seconds else done / took, "memory_gb": peak_memory_gb(place.device)}
        _write(folder, told)


def _encode(dataset: Dataset, spec: TuneSpec, encoder: TurnEncoder) -> list[Row]:
    from llmops_kit.tuning.training.batches import make_row

    train, _ = dataset.split(spec.eval_share, spec.seed)
    texts = [(example, text) for example in train for text in (example.answer, example.rejected) if text is not None]
    encoded = encoder.try_encode([(*example.prompt, Message("assistant", text)) for example, text in texts])
    limit = spec.max_tokens or encoder.entry.context_tokens
    made = [make_row(row, limit, weight=1.0, example=number) for number, parts in enumerate(encoded) if not isinstance(parts, KitError) for row in parts]
    return [row for row in made if row is not None]


def _batches(rows: Sequence[Row], spec: TuneSpec) -> Iterator[list[Row]]:
    """Ten batches of about `batch_tokens`: first the longest rows, so that the peak is met, then rows as the training will shuffle them."""
    from llmops_kit.tuning.training.order import plan_steps

    longest: list[Row] = []
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        if longest and sum(len(each.ids) for each in longest) + len(row.ids) > spec.batch_tokens:
            break
        longest.append(row)
    yield longest
    copies = 2 if spec.is_preference else 1
    steps = plan_steps([[len(row.ids)] for row in rows], epochs=float(STEPS), batch_tokens=spec.batch_tokens * copies, seed=spec.seed, max_steps=STEPS - 1)
    for step in steps:
        yield [rows[place] for place in step.rows]


def _write(folder: Path, told: dict[str, Any]) -> None:
    draft = folder / f"{RESULT_FILE}.draft"
    draft.write_text(json.dumps(told), encoding="utf-8")
    draft.replace(folder / RESULT_FILE)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
