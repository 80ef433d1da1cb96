"""Values for a spec: three presets that look at the model and the data, and the filling in of what was left open."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import KitError, ModelError
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.tuning.spec import Preset, TuneSpec

if TYPE_CHECKING:
    from pathlib import Path

    from llmops_kit.models import Models
    from llmops_kit.tuning.dataset import Dataset, Example

SMALL = 10_000_000
LARGE = 1_000_000_000
_SMALL_RATE, _LARGE_RATE = 5e-3, 2e-4
"""Learning rates of LoRA: measured on the starter model of 11 million parameters, and usual from a thousand million on (QLoRA, table 9)."""
_PREFERENCE_SHARE = 0.1
"""Of the rate for answers to copy: preferences pull on few tokens, and too fast a step forgets how to write."""
_STARTER_PARAMETERS = 10_818_880
_BATCH_ROWS = 8
_LEAST_STEPS, _MOST_EPOCHS = 56, 8
"""Steps that the starter model needs to take up a style, and passes after which a few rows are only learnt by heart."""
_EVALUATIONS = 8
_LEAST_BETWEEN = 4
"""Steps between two evaluations: in a run of a dozen steps, writing the samples would take longer than the training."""
_TRY_S = 150.0
"""Seconds of pure training that “try” may take; start, evaluations and samples come on top, three minutes in all."""
_CPU_FLOPS = 2e10
"""Slow of what two cores reach in float32 (measured: 25 to 40 thousand million a second)."""
_GPU_FLOPS = 2e13
_CHARACTERS_PER_TOKEN = 2.0
_NAME = re.compile(r"[^a-z0-9._-]+")


def propose_spec(dataset: Dataset, data: str | Path, models: Models, *, base: str, preset: Preset, changes: Mapping[str, Any]) -> TuneSpec:
    """A spec with values for this base and these rows; `changes` win over them.

    - `try`: a few epochs, ends within about three minutes on two cores for 200 short rows on the starter model.
    - `careful`: half the learning rate, some dropout, more rows kept for evaluation: for few or noisy rows.
    - `thorough`: twice the rank and epochs, half the learning rate.

    Raises: `UnknownName` for the base, `InvalidValue` for a change that does not serve.
    """
    entry = models.get(base)
    lengths = measure_lengths(dataset, models, base)
    parameters = count_parameters(entry)
    values = _values(preset, dataset, lengths, parameters)
    return TuneSpec(**{"base": base, "data": data, "preset": preset, **values, **changes})


def _values(preset: Preset, dataset: Dataset, lengths: Sequence[int], parameters: int) -> dict[str, Any]:
    method = "lora" if dataset.kind == "sft" else dataset.kind
    rank = 8 if parameters < LARGE else 16
    rate = choose_rate(method, parameters)
    values: dict[str, Any] = {"method": method, "batch_tokens": choose_batch(lengths, parameters)}
    epochs = _choose_epochs(lengths, values["batch_tokens"], parameters, method)
    if preset == "careful":
        values |= {"dropout": 0.05, "eval_share": 0.2 if len(lengths) < 200 else 0.15, "warmup": 0.1}
        rate, epochs = rate / 2, epochs * 1.5
    elif preset == "thorough":
        values |= {"warmup": 0.1}
        rank, rate, epochs = rank * 2, rate / 2, epochs * 2
    else:
        values |= _cap(epochs, sum(lengths), parameters, values["batch_tokens"])
        epochs = values.pop("epochs")
    return values | {"rank": rank, "alpha": 2.0 * rank, "epochs": epochs, "learning_rate": rate}


def _choose_epochs(lengths: Sequence[int], batch_tokens: int, parameters: int, method: str) -> float:
    """Three passes over the rows, two with a large model; more where the rows are so few that they would make a handful of steps.

    Of preferences two passes, one with a large model: five of them on 91 pairs drove the starter model to write one character over and over.
    """
    if method in ("dpo", "kto"):
        return 1.0 if parameters >= LARGE else 2.0
    if parameters >= LARGE:
        return 2.0
    steps = max(1, min(len(lengths), math.ceil(sum(lengths) / batch_tokens)))
    return float(min(_MOST_EPOCHS, max(3, math.ceil(_LEAST_STEPS / steps))))


def _cap(epochs: float, tokens: int, parameters: int, batch_tokens: int) -> dict[str, Any]:
    """As many epochs as “try” has time for, on the slower kind of machine that takes such a model; less than one is cut by steps."""
    speed = _CPU_FLOPS if parameters < LARGE else _GPU_FLOPS
    affordable = _TRY_S * speed / (4 * parameters)
    if tokens * epochs <= affordable:
        return {"epochs": epochs}
    if tokens <= affordable:
        return {"epochs": float(max(1, int(affordable / tokens)))}
    return {"epochs": 1.0, "max_steps": max(10, int(affordable / batch_tokens))}


def choose_rate(method: str, parameters: int) -> float:
    """The learning rate for a method and a number of parameters: between the small and the large model on a line in logarithms."""
    place = math.log(max(parameters, 1) / SMALL) / math.log(LARGE / SMALL)
    rate = _SMALL_RATE * (_LARGE_RATE / _SMALL_RATE) ** min(1.0, max(0.0, place))
    rate *= _PREFERENCE_SHARE if method in ("dpo", "kto") else 1.0
    return float(round(rate, -math.floor(math.log10(rate))))  # one digit that counts


def choose_batch(lengths: Sequence[int], parameters: int) -> int:
    """Tokens of a step: about eight rows, fewer of less than a hundred: many small steps teach more than few large ones."""
    typical = mean(lengths) if lengths else 64.0
    rows = min(_BATCH_ROWS, max(2, len(lengths) // 8))
    least = 128 if parameters < LARGE else 512
    return min(8192, max(least, math.ceil(typical * rows / 64) * 64))


def measure_lengths(dataset: Dataset, models: Models, base: str) -> list[int]:
    """Tokens of each row as the base reads it; from the number of characters where its tokenizer is not on this machine."""
    try:
        encoder = models.turn_encoder(base)
        encoded = encoder.encode([messages_of(example) for example in dataset.examples])
        return [sum(len(row.ids) for row in rows) for rows in encoded]
    except (ModelError, KitError):
        return [guess_length(example) for example in dataset.examples]


def messages_of(example: Example) -> tuple[Any, ...]:
    """The row as a conversation that ends with its answer."""
    return tuple(example.messages)


def guess_length(example: Example) -> int:
    """Tokens of a row from its characters: about two of them to a token, and four tokens of format per turn."""
    turns = messages_of(example)
    return sum(math.ceil(len(turn.content) / _CHARACTERS_PER_TOKEN) + 4 for turn in turns)


def count_parameters(entry: ModelEntry) -> int:
    """Parameters of an entry as far as it says; the starter's are known, and an entry that says nothing is taken for a large one."""
    if entry.provider == "starter":
        return _STARTER_PARAMETERS
    return int(entry.params_b * 1e9) if entry.params_b else LARGE


def count_steps(spec: TuneSpec, lengths: Sequence[int]) -> int:
    """Optimiser steps of the whole run, from the tokens of the training rows, as the training cuts its epochs."""
    tokens = sum(min(length, spec.max_tokens or length) for length in lengths)
    whole, part = divmod(spec.epochs, 1.0)
    steps = whole * _steps_of(tokens, len(lengths), spec.batch_tokens)
    if part:
        steps += _steps_of(tokens * part, max(1, round(part * len(lengths))), spec.batch_tokens)
    return min(int(steps), spec.max_steps or int(steps))


def _steps_of(tokens: float, rows: int, batch_tokens: int) -> int:
    """Steps an epoch is cut into: of about equal size, none without a row."""
    return max(1, min(rows, math.ceil(tokens / batch_tokens)))


def resolve(
    spec: TuneSpec,
    dataset: Dataset,
    entry: ModelEntry,
    *,
    parameters: int | None = None,
    steps: int | None = None,
    lengths: Sequence[int] | None = None,
    checkpointing: bool = False,
) -> TuneSpec:
    """The spec with every open value filled in. Given what was resolved before, it changes nothing.

    `parameters` are those of the base, where they were counted; `steps` and `lengths` (tokens per row) are measured or guessed from the
    rows; `checkpointing` says what an open `checkpointing` becomes.
    """
    rows = list(lengths) if lengths is not None else [guess_length(example) for example in dataset.examples]
    filled: dict[str, Any] = {"name": spec.name or name_of(dataset.name)}
    filled["max_tokens"] = min(spec.max_tokens or entry.context_tokens, entry.context_tokens)
    filled["learning_rate"] = spec.learning_rate or choose_rate(spec.method, parameters or count_parameters(entry))
    filled["checkpointing"] = checkpointing if spec.checkpointing is None else spec.checkpointing
    kept = spec.change(**filled)
    total = steps or count_steps(kept, rows)
    every = spec.eval_every or max(min(_LEAST_BETWEEN, total), round(total / _EVALUATIONS))
    return kept.change(eval_every=every, save_every=spec.save_every or every)


def name_of(data_name: str) -> str:
    """A name for the adapter from that of the data: its file's stem in the letters a model's id may have."""
    stem = unicodedata.normalize("NFKC", data_name).lower()
    stem = re.sub(r"\.(jsonl?|csv|tsv|xlsx|txt)$", "", stem.rpartition("/")[2].rpartition(":")[2] or stem)
    name = _NAME.sub("-", stem).strip("-._")[:32].rstrip("-._")
    return name or "tuned"
