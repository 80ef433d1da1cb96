"""TRL's trainers for preferences, taking rows that are ids already, in the order given. Imports TRL: for use inside functions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from llmops_kit.errors import Diverged
from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.tuning.training.order import Step
from llmops_kit.tuning.training.place import Place
from llmops_kit.tuning.training.progress import StepFacts


class _Told:
    """What both trainers do beside TRL's loss: clip the gradient, count, and stop where a number is none."""

    args: Any
    state: Any
    accelerator: Any
    optimizer: Any
    _metrics: Any

    def follow(self, steps: Sequence[Step], spec: TuneSpec) -> None:
        """Tell it the steps that its batches make up, and what it is to keep to."""
        self._steps, self._spec = steps, spec
        self.facts = StepFacts()
        self._loss, self._tokens = 0.0, 0

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """The rows are ids already: the prompt as inference sends it."""
        return dataset

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Raises: `Diverged` where the loss or its gradient is no number."""
        if not self._tokens:
            self.facts.begin()
        self._tokens += int(inputs["attention_mask"].sum())
        loss = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        self._loss += float(loss)
        self._metrics["train"].clear()
        if self.accelerator.sync_gradients:
            norm = float(torch.nn.utils.clip_grad_norm_([weight for weight in model.parameters() if weight.grad is not None], self._spec.max_grad_norm))
            number = self.state.global_step + 1
            for value in (self._loss, norm):
                if value - value != 0.0:
                    raise Diverged(step=number, loss=value)
            rate = float(self.optimizer.param_groups[0]["lr"])
            self.facts.add(self._steps[number - 1], loss=self._loss, grad_norm=norm, learning_rate=rate, tokens=self._tokens)
            self._loss, self._tokens = 0.0, 0
        return loss


class _Pairs(_Told, DPOTrainer):  # type: ignore[misc]
    """Direct preference optimisation (Rafailov et al. 2023)."""


class _Labels(_Told, KTOTrainer):  # type: ignore[misc]
    """Kahneman–Tversky optimisation (Ethayarajh et al. 2024)."""


def make_trainer(
    model: Any, tokenizer: Any, rows: Sequence[dict[str, Any]], steps: Sequence[Step], spec: TuneSpec, place: Place, folder: Path,
    *, batch_rows: int, passes: int, casts: bool, callbacks: list[Any],
) -> Any:  # fmt: skip
    """A trainer whose every step takes `passes` times `batch_rows` of `rows`, one after the other. The bare base is the reference.

    `model` has a new adapter; `casts`: its layers do not see to mixed number formats themselves.
    """
    from datasets import Dataset

    arguments: dict[str, Any] = {
        "output_dir": str(folder), "use_cpu": place.kind == "cpu", "bf16": casts and place.dtype == "bfloat16", "beta": spec.beta,
        "activation_checkpointing": bool(spec.checkpointing), "disable_dropout": spec.dropout == 0, "max_length": None,
        "per_device_train_batch_size": batch_rows, "gradient_accumulation_steps": passes, "num_train_epochs": 1,
        "train_sampling_strategy": "sequential", "learning_rate": spec.learning_rate or 0.0,
        "lr_scheduler_type": {"constant": "constant_with_warmup"}.get(spec.scheduler, spec.scheduler),
        "warmup_steps": round(spec.warmup * len(steps)), "weight_decay": spec.weight_decay, "max_grad_norm": 0.0, "optim": "adamw_torch",
        "seed": spec.seed, "report_to": "none", "disable_tqdm": True, "logging_strategy": "no", "save_strategy": "no", "eval_strategy": "no",
        "dataloader_pin_memory": False, "logging_nan_inf_filter": False,
    }  # fmt: skip
    kind, config = (_Pairs, DPOConfig) if spec.method == "dpo" else (_Labels, KTOConfig)
    if spec.method == "kto":
        arguments |= _balance(rows)
    made = config(**arguments)
    if place.kind != "cpu" and made.n_gpu > 1:
        made._n_gpu = 1
    trainer = kind(model=model, args=made, processing_class=tokenizer, train_dataset=Dataset.from_list(list(rows)), callbacks=callbacks)
    if "ref" in model.peft_config:  # TRL's copy of the adapter; a new one is nothing, so that the bare base says the same
        model.delete_adapter("ref")
    trainer.follow(steps, spec)
    return trainer


def _balance(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Weights with which the rarer label counts as much as the other (Ethayarajh et al. 2024, equation 8)."""
    good = sum(bool(row["label"]) for row in rows)
    bad = len(rows) - good
    if not good or not bad:
        return {}
    return {"desirable_weight": max(1.0, bad / good), "undesirable_weight": max(1.0, good / bad)}
