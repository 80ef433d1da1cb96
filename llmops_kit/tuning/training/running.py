"""One training from its first step, or from its last checkpoint, to a published adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import KitError, NotSaved
from llmops_kit.tuning.publishing import publish_adapter
from llmops_kit.tuning.training.checkpoints import fill_from_trainer, find_newest, step_of, write_checkpoint
from llmops_kit.tuning.training.evaluating import Evaluator, measure_base
from llmops_kit.tuning.training.place import measure_peak_gb
from llmops_kit.tuning.training.preparing import Prepared, prepare
from llmops_kit.tuning.training.progress import Clock

if TYPE_CHECKING:
    from llmops_kit.jobs import Work
    from llmops_kit.tuning import Tuning
    from llmops_kit.tuning.spec import TuneSpec

_BASE_FILE = "base.json"
_FACTS_FILE = "facts.json"


def run(tuning: Tuning, work: Work, spec: TuneSpec) -> Mapping[str, Any]:
    """See `train_adapter`."""
    from llmops_kit.tuning.training.trainer import quiet

    with quiet():
        return Training(tuning, work, prepare(tuning, work, spec)).run()


class Training:
    """A training under way. With several processes each has one; only that of rank 0 tells, evaluates and writes."""

    def __init__(self, tuning: Tuning, work: Work, prepared: Prepared) -> None:
        self._tuning, self._work, self._prepared = tuning, work, prepared
        self._checkpoints = work.folder / "checkpoints"
        self._total = len(prepared.steps)
        self._stopped = False
        self._trainer = self._make_trainer()
        self._leads = work.rank == 0

    def run(self) -> Mapping[str, Any]:
        """Train, publish, and give the result."""
        checkpoint = find_newest(self._checkpoints)
        done = step_of(checkpoint) if checkpoint is not None else 0
        if self._leads:
            self._start(done)
        if checkpoint is not None:
            self._take_up(checkpoint)
        self._clock = Clock(done, self._total)
        if done < self._total:
            self._trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
        else:
            self._trainer._load_from_checkpoint(str(checkpoint))
            if self._leads:
                self._evaluator.evaluate(self._tell, done, self._prepared.steps[-1].epoch)
        return self._finish() if self._leads else {}

    def _start(self, done: int) -> None:
        prepared, work = self._prepared, self._work
        self._tell(
            "started",
            done,
            device=prepared.place.device,
            dtype=prepared.place.dtype,
            trainable_parameters=prepared.trainable_parameters,
            train_rows=len(prepared.rows),
            eval_rows=len(prepared.eval_rows),
            steps=self._total,
            estimate=work.job.expected_s,
        )
        if prepared.left_out:
            self._note(
                f"{prepared.left_out} training rows were left out: the base's chat template refuses them, or nothing of their answer is left.",
                f"学習用の{prepared.left_out}行を除きました（ベースモデルのテンプレートで扱えないか、回答が残りません）。",
                done,
            )
        if (unanswered := len(prepared.spec.prompts) - len(prepared.prompts)) > 0:
            self._note(
                f"{unanswered} of the prompts are not answered as samples: they do not fit the context, or the base's chat template refuses them.",
                f"プロンプトのうち{unanswered}件は、コンテキストに収まらないかテンプレートで扱えないため、サンプルの回答を作りません。",
                done,
            )
        if prepared.spec.packing and not prepared.passes.packed:
            self._note(
                "This base does not keep packed rows apart, so its batches are padded; that is slower.",
                "このベースモデルでは行を詰めて並べられないため、パディングして学習します（遅くなります）。",
                done,
            )
        base, is_new = self._find_base()
        self._evaluator = self._make_evaluator(base)
        if is_new:
            if base["eval_loss"] is not None:
                self._tell("eval", 0, eval_loss=base["eval_loss"], token_accuracy=base["token_accuracy"], epoch=0.0)
            for prompt, text in zip(prepared.prompts, base["texts"], strict=True):
                turns = [{"role": turn.role, "content": turn.content} for turn in prompt.messages]
                self._tell("sample", 0, prompt=prompt.text, messages=turns, expected=prompt.expected, base=text, text=text)

    def _make_trainer(self) -> Any:
        """What takes the steps; its `facts` are those of the run."""
        from llmops_kit.tuning.training.trainer import AfterStep, StepTrainer, make_arguments, without_printing

        prepared, work = self._prepared, self._work
        arguments = make_arguments(prepared.spec, work.folder / "trainer", steps=self._total, kind=prepared.place.kind)
        return without_printing(
            StepTrainer(
                passes=prepared.passes,
                rows=prepared.rows,
                steps=prepared.steps,
                spec=prepared.spec,
                rank=work.rank,
                processes=work.processes,
                args=arguments,
                callbacks=[AfterStep(self._after_step)],
            )
        )

    def _make_evaluator(self, base: Mapping[str, Any]) -> Evaluator:
        return Evaluator(self._prepared, base)

    def _find_base(self) -> tuple[dict[str, Any], bool]:
        """What the base scores and writes, measured once for all attempts; and whether that was now."""
        file = self._work.folder / _BASE_FILE
        with suppress(OSError, ValueError):
            return json.loads(file.read_text(encoding="utf-8")), False
        prepared = self._prepared
        base = measure_base(prepared.passes, prepared.encoder, prepared.eval_rows, prepared.prompts)
        with suppress(OSError):
            draft = file.with_suffix(".draft")
            draft.write_text(json.dumps(base, ensure_ascii=False), encoding="utf-8")
            draft.replace(file)
        return base, True

    def _take_up(self, checkpoint: Path) -> None:
        facts = json.loads((checkpoint / _FACTS_FILE).read_text(encoding="utf-8"))
        self._trainer.facts.tokens, self._trainer.facts.seconds = int(facts["tokens"]), float(facts["seconds"])

    def _after_step(self, step: int) -> bool:
        """Tell, evaluate and save what is due after `step`; whether to stop here."""
        is_last = step == self._total
        stops = self._ask_to_stop()
        self._stopped = stops and not is_last
        if self._leads:
            self._tell_step(step)
            spec = self._prepared.spec
            if is_last or step % (spec.eval_every or self._total) == 0:
                self._evaluator.evaluate(self._tell, step, self._trainer.facts.epoch)
            if is_last or stops or step % (spec.save_every or self._total) == 0:
                self._save(step)
        return stops

    def _ask_to_stop(self) -> bool:
        stops = self._leads and self._work.is_cancelled()
        if self._work.processes > 1:
            import torch

            flag = torch.tensor(float(stops), device=self._prepared.place.device)
            torch.distributed.all_reduce(flag)
            stops = bool(flag.item())
        return stops

    def _tell_step(self, step: int) -> None:
        facts = self._trainer.facts
        speed = round(facts.tokens_per_s, 1)
        self._tell(
            "train",
            step,
            loss=facts.loss,
            learning_rate=facts.learning_rate,
            grad_norm=facts.grad_norm,
            tokens_per_s=speed,
            epoch=facts.epoch,
            tokens=facts.tokens,
        )
        self._work.progress(step, self._total, self._clock.seconds_left(step), loss=facts.loss, tokens_per_s=speed, epoch=facts.epoch)

    def _save(self, step: int) -> None:
        """Write a checkpoint. A disk that is full costs this checkpoint and not the training: the last good one stays."""
        facts, fill = self._trainer.facts, fill_from_trainer(self._trainer)

        def fill_all(draft: Path) -> None:
            fill(draft)
            (draft / _FACTS_FILE).write_text(json.dumps({"tokens": facts.tokens, "seconds": facts.seconds}), encoding="utf-8")

        try:
            path = write_checkpoint(self._checkpoints, step, fill_all)
        except NotSaved as error:
            reason = error.facts.get("reason")
            en = f"The checkpoint of step {step} could not be saved ({reason}). The training goes on; the last one before it is kept."
            self._note(en, f"ステップ{step}のチェックポイントを保存できませんでした（{reason}）。学習は続けます。直前のものは残っています。", step)
        else:
            self._tell("checkpoint", step, path=str(path))

    def _finish(self) -> Mapping[str, Any]:
        facts, prepared, evaluator = self._trainer.facts, self._prepared, self._evaluator
        step = int(self._trainer.state.global_step) or self._total
        result: dict[str, Any] = {
            "eval_loss_before": evaluator.before,
            "eval_loss": evaluator.last.loss,
            "token_accuracy": evaluator.last.accuracy,
            "seconds": round(facts.seconds, 2),
            "tokens": facts.tokens,
            "tokens_per_s": round(facts.tokens / facts.seconds, 1) if facts.seconds else None,
            "steps": step,
            "train_rows": len(prepared.rows),
            "eval_rows": len(prepared.eval_rows),
            "device": prepared.place.kind,
            "dtype": prepared.place.dtype,
            **evaluator.figures(),
        }
        if self._stopped:
            result["stopped"] = True
            if not was_cancelled(self._work):
                return result  # the machine asked; the job goes on later, from the checkpoint
            if not evaluator.answers:
                evaluator.sample(self._tell, step)
        else:
            evaluator.show_extremes(self._tell, step)
            result["ends_by_itself"] = self._check_ends(step)
        result["peak_memory_gb"] = round(measure_peak_gb(prepared.place), 3)
        folder = self._work.folder / "adapter"
        save_adapter(prepared.model, folder)
        entry = publish_adapter(self._tuning, self._work, prepared.spec, prepared.dataset, folder, {**result, "samples": evaluator.samples()})
        shutil.rmtree(folder, ignore_errors=True)
        return {**result, "model": entry.id, "adapter_path": entry.adapter or entry.model}

    def _check_ends(self, step: int) -> bool | None:
        ends = self._evaluator.ends_by_itself()
        if ends is False:
            self._note(
                "Some answers did not come to an end by themselves. Train longer, or see in the preview that the end token counts.",
                "自分で終わらない回答がありました。もう少し長く学習するか、終了トークンが損失に数えられているかプレビューで確かめてください。",
                step,
            )
        return ends

    def _tell(self, kind: str, step: int, **data: Any) -> None:
        """An event that cannot be written is lost; the training is not."""
        with suppress(KitError):
            self._work.event(kind, step, **data)

    def _note(self, en: str, ja: str, step: int) -> None:
        with suppress(KitError):
            self._work.note(en, ja, step)


def save_adapter(model: Any, folder: Path) -> None:
    """Write an adapter as PEFT does. Raises: `NotSaved`."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(str(folder))
    except (OSError, RuntimeError) as error:
        raise NotSaved(reason=getattr(error, "strerror", None) or str(error)) from error


def was_cancelled(work: Work) -> bool:
    """Whether a person stopped it, and not the machine that ends its processes."""
    return not work.pulse.terminated or work.pulse.cancelled
