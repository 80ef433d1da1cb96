"""The launch of a job: what can be refused is refused before there is a row, and the data is frozen for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmops_kit.errors import InvalidValue, NotSaved, UnknownName
from llmops_kit.tuning.base_model import find_base
from llmops_kit.tuning.budget import Budget, Estimate, plan_budget
from llmops_kit.tuning.frozen import freeze_dataset
from llmops_kit.tuning.handle import ESTIMATE_FILE, TuneJob
from llmops_kit.tuning.publishing import make_id
from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.types import Job, new_id

if TYPE_CHECKING:
    from llmops_kit.jobs import Jobs
    from llmops_kit.models import Models
    from llmops_kit.settings import Settings
    from llmops_kit.store import Store
    from llmops_kit.tuning.dataset import Dataset


class Launches(Protocol):
    """What a launch needs of `Tuning`."""

    _store: Store
    _jobs: Jobs
    _models: Models
    _settings: Settings

    def _dataset_of(self, spec: TuneSpec) -> Dataset: ...


def launch_tuning(tuning: Launches, spec: TuneSpec, *, owner: str, id: str | None, estimate: Estimate | None = None) -> TuneJob:
    """Check `spec`, freeze its data, put the job in line and give a handle to it. The same `id` sent again is the same job.

    The job's row holds the spec with every open value filled in. `estimate`: one that ten steps of this spec were tried for; without it, that
    by formula or history is kept with the job.

    Raises: `InvalidValue` for what cannot run or cannot fit, with what would; `ModelNotReady` for a base that is not downloaded; what reading
        the data raises; `Busy` where the owner has too many jobs waiting; `NotSaved` where the disk refuses.
    """
    jobs, models = tuning._jobs, tuning._models
    if id is not None and (known := _find_job(jobs, id)) is not None:
        return TuneJob(jobs, known)
    find_base(models, spec)  # a base that cannot be tuned is named before the data is read
    dataset = fit_data(tuning._dataset_of(spec), spec)
    models.files(spec.base)
    check_limits(models, spec)
    check_name(jobs, models, spec)
    budget = plan_budget(dataset, spec, models, tuning._store, tuning._settings)
    budget = replace(budget, estimate=estimate or budget.estimate)
    check_split(budget)
    check_labels(dataset, spec)
    if spec.processes > 1:
        check_processes(spec, budget.base.device, tuning._settings)
    if not budget.estimate.fits and tuning._settings.ray_address is None:  # what a cluster has is not known here
        raise too_large(budget)
    return _submit(tuning, "tune", budget, dataset, owner=owner, id=id or new_id())


def fit_data(dataset: Dataset, spec: TuneSpec) -> Dataset:
    """The data as the method needs it: pairs serve `kto` too, as good and bad answers.

    Raises: `InvalidValue` where nothing can be learnt from it, or not with this method.
    """
    if (refusal := dataset.refusal) is not None:
        raise InvalidValue(en=refusal["en"], ja=refusal["ja"], name="data", value=spec.data)
    wanted = spec.method if spec.is_preference else "sft"
    if wanted == dataset.kind:
        return dataset
    if wanted == "sft":
        raise InvalidValue(
            en=f"The rows of “{spec.data}” are preferences ({dataset.kind}), which {spec.method} does not learn from. "
            f"Choose method={dataset.kind!r}, or give rows with a prompt and one answer.",
            ja=f"「{spec.data}」の行は選好データ（{dataset.kind}）で、{spec.method}では学習できません。"
            f"method={dataset.kind!r}にするか、指示と1つの回答からなる行を指定してください。",
            name="method",
            value=spec.method,
        )
    return dataset.convert("dpo" if wanted == "dpo" else "kto")


def check_limits(models: Models, spec: TuneSpec) -> None:
    """Raise `InvalidValue` for layers there are not, a rank above their width, or rows longer than the base takes."""
    base = find_base(models, spec)
    base.targets(spec)
    if spec.max_tokens is not None and spec.max_tokens > base.context_tokens:
        limit = {"en": f"16 to {base.context_tokens}, what {spec.base} takes", "ja": f"16〜{base.context_tokens}（{spec.base}が扱える長さ）"}
        raise InvalidValue(name="max_tokens", value=spec.max_tokens, allowed=limit)


def check_processes(spec: TuneSpec, device: str, settings: Settings) -> None:
    """Raise `InvalidValue` for preferences, which one process learns, and for more processes than there are GPUs, or cores, here."""
    if spec.is_preference:
        raise InvalidValue(name="processes", value=spec.processes, allowed={"en": "1 for dpo and kto", "ja": "dpoとktoでは1"})
    if settings.ray_address is not None:  # what a cluster has is not known here
        return
    most = 1
    if device == "cuda":
        import torch

        most = torch.cuda.device_count()
    elif device == "cpu":
        most = os.cpu_count() or 1
    if spec.processes > most:
        unit = ("GPUs", "GPU") if device == "cuda" else ("cores", "コア")
        allowed = {"en": f"1 to {most}, the {unit[0]} of this machine", "ja": f"1〜{most}（このマシンの{unit[1]}数）"} if device != "mps" else "1"
        raise InvalidValue(name="processes", value=spec.processes, allowed=allowed)


def check_labels(dataset: Dataset, spec: TuneSpec) -> None:
    """Raise `InvalidValue` where `kto` would see only good or only bad answers: it learns from the difference."""
    if spec.method == "kto" and len({example.label for example in dataset.split(spec.eval_share, spec.seed)[0]}) < 2:
        allowed = {"en": "rows of which some are good (true) and some are bad (false)", "ja": "良い回答（true）と悪い回答（false）の両方がある行"}
        raise InvalidValue(name="data", value=spec.data, allowed=allowed)


def check_name(jobs: Jobs, models: Models, spec: TuneSpec) -> None:
    """Raise `InvalidValue` where the name somebody chose is that of a model, or of a job that waits or runs. A name left open finds a free one."""
    if spec.name is None:
        return
    wanted = make_id(spec.base, spec.name)
    if (taken := _who_has(jobs, models, wanted, spec)) is not None:
        raise InvalidValue(
            en=f"“{spec.name}” is taken: {taken['en']}. Choose another name.",
            ja=f"名前「{spec.name}」は使われています：{taken['ja']}。別の名前にしてください。",
            name="name",
            value=spec.name,
        )


def _who_has(jobs: Jobs, models: Models, wanted: str, spec: TuneSpec) -> Mapping[str, str] | None:
    if wanted in {entry.id for entry in models.entries(embedders=True)}:
        return {"en": f"there is a model {wanted}", "ja": f"モデル{wanted}があります"}
    for job in jobs.find(states=("queued", "running")):
        if job.kind == "tune" and job.spec.get("base") == spec.base and job.spec.get("name") == spec.name:
            return {"en": "a job that waits or runs makes it", "ja": "待機中または実行中のジョブが作成します"}
        if job.kind == "pretrain" and job.spec.get("name") == wanted:
            return {"en": "a job that waits or runs makes it", "ja": "待機中または実行中のジョブが作成します"}
    return None


def check_split(budget: Budget) -> None:
    """Raise `InvalidValue` where the split leaves nothing to learn from, or no token of any row counts."""
    rows = budget.rows
    if not rows.train:
        allowed = {"en": "a smaller eval_share, or more rows that differ", "ja": "より小さいeval_share、または互いに異なる行の追加"}
        raise InvalidValue(name="eval_share", value=budget.spec.eval_share, allowed=allowed)
    if not any(row.counted for row in rows.train):
        allowed = {"en": "a larger max_tokens: no answer is left of the rows", "ja": "より大きいmax_tokens（回答が残りません）"}
        raise InvalidValue(name="max_tokens", value=budget.spec.max_tokens, allowed=allowed)


def too_large(budget: Budget) -> InvalidValue:
    """The error of a spec that does not fit the memory, with what would."""
    estimate = budget.estimate
    gb = {"needs_gb": estimate.memory_gb, "has_gb": estimate.available_gb}
    return InvalidValue(en=estimate.advice["en"], ja=estimate.advice["ja"], name="base", value=budget.spec.base, facts=gb)


def _submit(tuning: Launches, kind: str, budget: Budget, dataset: Dataset, *, owner: str, id: str) -> TuneJob:
    spec, estimate = budget.spec, budget.estimate
    folder = tuning._jobs.folder(id)
    is_new = not folder.exists()
    try:
        freeze_dataset(dataset, folder)
        write_plain(folder / ESTIMATE_FILE, estimate.plain())
        told = spec.model_dump(mode="json")
        job = tuning._jobs.submit(kind, told, owner=owner, name=spec.name or kind, id=id, expected_s=estimate.seconds, processes=spec.processes)
    except BaseException:
        if is_new and _find_job(tuning._jobs, id) is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return TuneJob(tuning._jobs, job)


def write_plain(file: Path, values: Mapping[str, Any]) -> None:
    """Write plain values as JSON. Raises: `NotSaved`."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as fault:
        raise NotSaved(reason=fault.strerror or str(fault)) from fault


def _find_job(jobs: Jobs, id: str) -> Job | None:
    try:
        return jobs.get(id)
    except UnknownName:
        return None


def launch_pretraining(tuning: Launches, folder: str | Path, *, name: str, owner: str, id: str | None, fields: Mapping[str, Any]) -> TuneJob:
    """Check the texts, freeze them, put the job in line and give a handle to it. `fields` are those of `PretrainSpec`.

    Raises: `InvalidValue`, `UnreadableFile`, `Busy`, `NotSaved`.
    """
    from llmops_kit.tuning.pretraining import PretrainSpec
    from llmops_kit.tuning.pretraining.planning import plan_pretraining

    jobs = tuning._jobs
    if id is not None and (known := _find_job(jobs, id)) is not None:
        return TuneJob(jobs, known)
    spec = PretrainSpec(**{**fields, "folder": str(folder), "name": name})
    _check_model_name(jobs, tuning._models, spec.name)
    plan = plan_pretraining(spec, tuning._settings)
    made = id or new_id()
    place = jobs.folder(made)
    is_new = not place.exists()
    try:
        plan.corpus.freeze(place)
        write_plain(place / ESTIMATE_FILE, plan.estimate.plain())
        told = plan.spec.model_dump(mode="json")
        job = jobs.submit("pretrain", told, owner=owner, name=spec.name, id=made, expected_s=plan.estimate.seconds)
    except BaseException:
        if is_new and _find_job(jobs, made) is None:
            shutil.rmtree(place, ignore_errors=True)
        raise
    return TuneJob(jobs, job)


def _check_model_name(jobs: Jobs, models: Models, name: str) -> None:
    running = {str(job.spec.get("name")): job.id for job in jobs.find(states=("queued", "running")) if job.kind == "pretrain"}
    if name in {entry.id for entry in models.entries(embedders=True)} or name in running:
        allowed = {"en": "a name that no model has", "ja": "まだ使われていない名前"}
        raise InvalidValue(name="name", value=name, allowed=allowed)


