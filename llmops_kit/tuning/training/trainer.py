"""transformers' Trainer with whole optimiser steps as its items. Imports transformers: for use inside functions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from llmops_kit.errors import Diverged
from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.tuning.training.batches import Row, share_rows
from llmops_kit.tuning.training.order import Step
from llmops_kit.tuning.training.passes import Passes
from llmops_kit.tuning.training.progress import StepFacts


class StepTrainer(Trainer):  # type: ignore[misc]
    """Its data set is the list of steps; one step is all forward and backward passes, the exchange between processes, and the clipping."""

    def __init__(self, *, passes: Passes, rows: Sequence[Row], steps: Sequence[Step], spec: TuneSpec, rank: int, processes: int, **further: Any) -> None:
        super().__init__(model=passes.model, **further)
        self._passes, self._rows, self._steps, self._spec = passes, rows, steps, spec
        self._rank, self._processes = rank, processes
        self.facts = StepFacts()
        self.model_accepts_loss_kwargs = False

    def get_train_dataloader(self) -> Any:
        """Every process reads every step, and takes its rows of it."""
        return torch.utils.data.DataLoader(range(len(self._steps)), batch_size=1, shuffle=False, collate_fn=_take)  # type: ignore[arg-type]

    def training_step(self, model: Any, inputs: dict[str, int], num_items_in_batch: Any = None) -> Any:
        """Raises: `Diverged` where the loss or its gradient is no number."""
        self.facts.begin()
        model.train()
        step = self._steps[inputs["step"]]
        rows = [self._rows[place] for place in step.rows]
        total = sum(row.counts * row.weight for row in rows)
        own = share_rows(rows, self._rank, self._processes)
        wrapped = model if self._processes > 1 else None
        loss = self._passes.train(own, total, wrapped=wrapped, scale=float(self._processes))
        if self._processes > 1:
            summed = torch.tensor(loss, device=self._passes.place.device, dtype=torch.float64)
            torch.distributed.all_reduce(summed)
            loss = float(summed)
        norm = float(torch.nn.utils.clip_grad_norm_([weight for weight in model.parameters() if weight.grad is not None], self._spec.max_grad_norm))
        number = self.state.global_step + 1
        if not (_is_finite(loss) and _is_finite(norm)):
            raise Diverged(step=number, loss=loss if not _is_finite(loss) else norm)
        self.facts.add(step, loss=loss, grad_norm=norm, learning_rate=float(self.optimizer.param_groups[0]["lr"]), tokens=sum(len(row.ids) for row in rows))
        return torch.tensor(loss, device=self.args.device)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the steps are no tensors."""
        return 0


def make_arguments(spec: TuneSpec, folder: Path, *, steps: int, kind: str) -> TrainingArguments:
    """The trainer's arguments: everything that writes, evaluates or reports by itself is off."""
    on_cpu = kind == "cpu"
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=on_cpu,
        per_device_train_batch_size=1,
        num_train_epochs=1,
        learning_rate=spec.learning_rate or 0.0,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(spec.scheduler, spec.scheduler),
        warmup_steps=round(spec.warmup * steps),
        weight_decay=spec.weight_decay,
        max_grad_norm=0.0,
        optim="adamw_torch",
        seed=spec.seed,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,
        ddp_find_unused_parameters=False,
        ddp_timeout=7200,
    )
    if not on_cpu and arguments.n_gpu > 1:
        arguments._n_gpu = 1  # several GPUs are for several processes
    return arguments


@contextmanager
def quiet() -> Iterator[None]:
    """What transformers and PEFT say while training is for their developers: of names that are to change, and of a base that was not found on a hub."""
    from transformers import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def without_printing(trainer: Any) -> Any:
    """Take away the callback that prints."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


class AfterStep(TrainerCallback):  # type: ignore[misc]
    """Calls `then` with the step that is done; where it gives True, the training stops."""

    def __init__(self, then: Any) -> None:
        self._then = then

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Called by the trainer."""
        if self._then(int(state.global_step)):
            control.should_training_stop = True
        return control


def _take(items: list[int]) -> dict[str, int]:
    return {"step": items[0]}


def _is_finite(value: float) -> bool:
    return value - value == 0.0
