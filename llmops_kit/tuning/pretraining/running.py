"""The run of a pretraining: tokenizer, network, steps, evaluations, checkpoints, and the model in the catalogue at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from llmops_kit.errors import Diverged
from llmops_kit.starter.lm import build_model
from llmops_kit.starter.tokenizer import PAD, train_tokenizer
from llmops_kit.starter.training import Plan, Taken, build_optimiser, decay, take_step, warm
from llmops_kit.tuning.peak import peak_memory_gb
from llmops_kit.tuning.pretraining.checkpoints import find_checkpoint, load_checkpoint, save_checkpoint
from llmops_kit.tuning.pretraining.corpus import Corpus, read_frozen_corpus
from llmops_kit.tuning.pretraining.measuring import choose_beginnings, continue_texts, measure_loss, measure_unigram
from llmops_kit.tuning.pretraining.packing import Packed, draw_batch, is_copying, pack
from llmops_kit.tuning.pretraining.planning import alphabet_of, recipe_plan, resolve
from llmops_kit.tuning.pretraining.publishing import publish_model
from llmops_kit.tuning.pretraining.spec import PretrainSpec

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

    from llmops_kit.jobs import Work
    from llmops_kit.models import Models
    from llmops_kit.settings import Settings

_LOG_S = 0.5
"""Seconds between two logged steps at least: what nobody can read need not be written."""


class Has(Protocol):
    """What a pretraining needs of `Tuning`."""

    _models: Models
    _settings: Settings


def train_model(tuning: Has, work: Work) -> Mapping[str, Any]:
    """Carry out a pretraining job in its process; resumed, it goes on from the last checkpoint with the same weights, data order and rates.

    Gives `model`, `adapter_path` (the model's folder), `eval_loss_before`, `eval_loss`, `unigram_loss`, `steps`, `tokens`, `seconds`,
    `tokens_per_s`, `peak_memory_gb`; after a cancel `stopped`, with a checkpoint to go on from and no model.

    Raises: `UnreadableFile` where the frozen texts are damaged, `Diverged`, `OSError` for the disk.
    """
    import torch

    corpus = read_frozen_corpus(work.folder)
    spec = PretrainSpec(**{name: value for name, value in work.job.spec.items() if name in PretrainSpec.model_fields})
    spec = resolve(spec, spec.device or ("cuda" if torch.cuda.is_available() else "cpu"), characters=corpus.characters)
    return _Run(tuning, work, corpus, spec).carry_out()


@dataclass
class _Progress:
    """How far the run is: what a checkpoint keeps beside the weights."""

    step: int = 0
    tokens: int = 0
    training_s: float = 0.0
    eval_loss_before: float | None = None
    eval_loss: float | None = None
    base: list[str] = field(default_factory=list)


class _Run:
    def __init__(self, tuning: Has, work: Work, corpus: Corpus, spec: PretrainSpec) -> None:
        import torch

        self._tuning, self._work, self._corpus, self._spec = tuning, work, corpus, spec
        self._plan: Plan = recipe_plan(spec)
        torch.set_num_threads(self._plan.threads)
        torch.manual_seed(spec.seed)
        learnt, self._kept = corpus.split(spec.eval_share, spec.seed)
        vocabulary = spec.vocabulary or 2048
        self._tokenizer: Tokenizer = train_tokenizer(learnt, vocab_size=vocabulary, alphabet_size=alphabet_of(vocabulary))
        self._packed: Packed = pack(self._tokenizer, learnt, self._plan)
        self._model: LlamaForCausalLM = build_model(spec.shape, self._tokenizer, seed=spec.seed)
        self._model.to(torch.device(self._plan.device))  # type: ignore[arg-type, unused-ignore]
        self._optimiser: torch.optim.Optimizer = build_optimiser(self._model, self._plan)
        self._beginnings = [(text, "") for text in spec.prompts] or choose_beginnings(self._kept)
        self._progress = _Progress()
        self._started, self._logged = time.monotonic(), 0.0

    def carry_out(self) -> Mapping[str, Any]:
        place = find_checkpoint(self._work.folder) if self._work.resumed else None
        if place is not None:
            self._progress = _Progress(**load_checkpoint(place, self._model, self._optimiser))
            self._work.note(
                f"Going on after step {self._progress.step}.", f"ステップ{self._progress.step}の続きから再開します。", step=self._progress.step
            )
        unigram = measure_unigram(self._tokenizer, self._packed.ids, self._kept)
        self._tell_start(unigram)
        if self._progress.step == 0:
            self._evaluate()
        while self._progress.step < self._plan.steps:
            if self._work.is_cancelled():
                self._save()
                return {"stopped": True, "steps": self._progress.step, "eval_loss": self._progress.eval_loss, "unigram_loss": unigram}
            self._take()
        return self._finish(unigram)

    def _take(self) -> None:
        progress, plan, spec = self._progress, self._plan, self._spec
        began = time.monotonic()
        batch = draw_batch(self._packed, plan, progress.step, vocabulary=self._tokenizer.get_vocab_size())
        self._model.train()
        pad = self._tokenizer.get_vocab()[PAD]
        taken = take_step(self._model, self._optimiser, plan, batch, step=progress.step, progress=progress.step / plan.steps, pad=pad)
        if not math.isfinite(taken.loss):
            raise Diverged(step=progress.step + 1, loss=taken.loss)
        progress.step += 1
        progress.tokens += taken.tokens
        progress.training_s += time.monotonic() - began
        self._tell_step(taken)
        if progress.step % (spec.eval_every or plan.steps) == 0 or progress.step == plan.steps:
            self._evaluate()
        if progress.step % (spec.save_every or plan.steps) == 0 and progress.step < plan.steps:
            self._save()

    def _tell_start(self, unigram: float) -> None:
        spec = self._spec
        self._work.event(
            "started",
            self._progress.step,
            device=self._plan.device,
            dtype=self._plan.precision,
            trainable_parameters=sum(weight.numel() for weight in self._model.parameters()),
            train_rows=len(self._corpus.texts),
            eval_rows=len(self._kept),
            train_tokens=len(self._packed.ids),
            vocabulary=self._tokenizer.get_vocab_size(),
            steps=self._plan.steps,
            epochs=round(self._plan.steps / self._packed.steps_per_epoch, 2),
            unigram_loss=unigram,
            size=spec.size,
        )

    def _tell_step(self, taken: Taken) -> None:
        progress, plan = self._progress, self._plan
        left = (plan.steps - progress.step) * progress.training_s / progress.step
        self._work.progress(progress.step, plan.steps, round(left, 1), loss=round(taken.loss, 4))
        if is_copying(plan, progress.step - 1) or (time.monotonic() - self._logged < _LOG_S and progress.step != plan.steps):
            return  # the loss of copying random tokens would stand among those of the texts as a spike
        self._logged = time.monotonic()
        before = progress.step - 1
        rate = plan.learning_rate * warm(before, plan) * decay(before / plan.steps)
        self._work.event(
            "train",
            progress.step,
            loss=round(taken.loss, 5),
            learning_rate=rate,
            grad_norm=round(taken.grad_norm, 4),
            tokens_per_s=round(progress.tokens / max(progress.training_s, 1e-9), 1),
            epoch=round(progress.step / self._packed.steps_per_epoch, 3),
            tokens=progress.tokens,
        )

    def _evaluate(self) -> None:
        progress = self._progress
        loss, accuracy = measure_loss(self._model, self._tokenizer, self._kept, self._plan.max_tokens)
        epoch = round(progress.step / self._packed.steps_per_epoch, 3)
        self._work.event("eval", progress.step, eval_loss=round(loss, 5), token_accuracy=round(accuracy, 5), epoch=epoch)
        texts = continue_texts(self._model, self._tokenizer, [beginning for beginning, _ in self._beginnings])
        if progress.step == 0:
            progress.eval_loss_before, progress.base = loss, texts
        progress.eval_loss = loss
        for (beginning, expected), base, text in zip(self._beginnings, progress.base, texts, strict=True):
            messages = [{"role": "user", "content": beginning}]
            self._work.event("sample", progress.step, prompt=beginning, messages=messages, expected=expected or None, base=base, text=text)

    def _save(self) -> None:
        progress = self._progress
        state = {name: value for name, value in vars(progress).items() if name != "step"}
        place = save_checkpoint(self._work.folder, progress.step, self._model, self._optimiser, state)
        self._work.event("checkpoint", progress.step, path=place.name)

    def _finish(self, unigram: float) -> Mapping[str, Any]:
        progress = self._progress
        facts: dict[str, Any] = {
            "eval_loss_before": progress.eval_loss_before,
            "eval_loss": progress.eval_loss,
            "unigram_loss": unigram,
            "steps": progress.step,
            "tokens": progress.tokens,
            "seconds": round(time.monotonic() - self._started, 1),
            "tokens_per_s": round(progress.tokens / max(progress.training_s, 1e-9), 1),
            "peak_memory_gb": round(peak_memory_gb(self._plan.device), 3),
        }
        samples = continue_texts(self._model, self._tokenizer, [beginning for beginning, _ in self._beginnings])
        shown = [
            {"prompt": beginning, "expected": expected or None, "base": base, "text": text}
            for (beginning, expected), base, text in zip(self._beginnings, progress.base, samples, strict=True)
        ]
        entry = publish_model(self._tuning, self._work, self._spec, self._corpus, self._model, self._tokenizer, facts=facts, samples=shown)
        return {**facts, "model": entry.id, "adapter_path": entry.model}
