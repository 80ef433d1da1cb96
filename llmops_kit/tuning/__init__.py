"""Fine-tuning: look at the data, estimate, launch, watch, and use what came out; and training from scratch, as a lesson.

    report = kit.tuning.check("rows.csv")
    spec = kit.tuning.spec("rows.csv", base="starter-lm", preset="try")
    kit.tuning.estimate(spec)
    job = kit.tuning.launch(spec)
    job.wait(); job.metrics(); job.adapter_path
    kit.playground.run("summarize", model=job.model, variables={"text": "…"})

A job is a process of its own; what it made is a model of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.access import LOCAL
from llmops_kit.tuning.spec import Preset as Preset
from llmops_kit.tuning.spec import TuneSpec as TuneSpec

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.jobs import Jobs, Work
    from llmops_kit.models import ModelEntry, Models
    from llmops_kit.playground import Playground
    from llmops_kit.progress import Progress
    from llmops_kit.settings import Settings
    from llmops_kit.store import Store
    from llmops_kit.tracking import Tracking
    from llmops_kit.tuning.budget import Estimate
    from llmops_kit.tuning.card import Card
    from llmops_kit.tuning.dataset import Dataset
    from llmops_kit.tuning.dataset.report import CheckReport
    from llmops_kit.tuning.handle import TuneJob
    from llmops_kit.tuning.neighbours import Compares, Exports
    from llmops_kit.tuning.preview import Preview

Data = Any
"""A file, `sample:NAME`, `campaign:ID`, `comparison:ID`, a list of mappings, or a DataFrame."""


class Tuning:
    """The fine-tuning of a workspace: its data, its jobs and the adapters they made."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        models: Models,
        playground: Playground,
        tracking: Tracking,
        settings: Settings,
        *,
        comparison: Callable[[], Compares],
        feedback: Callable[[], Exports],
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._models = models
        self._playground = playground
        self._tracking = tracking
        self._settings = settings
        self._comparison = comparison
        self._feedback = feedback

    # --- the data

    def read(self, data: Data, *, columns: Mapping[str, str] | None = None, encoding: str | None = None) -> Dataset:
        """The rows of `data` in whatever format they are; wrong ones are named by line in `.problems`, good ones kept.

        Raises: `UnreadableFile` where nothing can be read from it, `UnknownName` for a sample or campaign that is not there.
        """
        from llmops_kit.tuning.dataset import read_dataset

        return read_dataset(data, columns=columns, encoding=encoding, max_mb=self._settings.max_training_mb, campaigns=self._feedback)

    def check(
        self, data: Data, *, base: str = "starter-lm", columns: Mapping[str, str] | None = None, encoding: str | None = None, max_tokens: int | None = None
    ) -> CheckReport:
        """What is to be known of `data` before anything runs: rows, lengths, duplicates, personal data, leakage. Raises: as `read`."""
        from llmops_kit.tuning.dataset.report import check_dataset

        dataset = self.read(data, columns=columns, encoding=encoding)
        return check_dataset(dataset, self._models, self._store, base=base, max_tokens=max_tokens)

    def preview(self, spec: TuneSpec, *, rows: int = 4) -> Preview:
        """What the model will see first: the rendered rows of the first batch, their tokens, and which of them count in the loss."""
        from llmops_kit.tuning.preview import preview_batch

        return preview_batch(self._dataset_of(spec), spec, self._models, rows=rows)

    # --- before and at the start

    def spec(self, data: str | Path, *, base: str = "starter-lm", preset: Preset = "try", **changes: Any) -> TuneSpec:
        """A spec with sensible values for this model and this data; `changes` are fields of `TuneSpec`. Raises: as `read`; `InvalidValue`."""
        from llmops_kit.tuning.presets import propose_spec

        dataset = self.read(data, columns=changes.get("columns"), encoding=changes.get("encoding"))
        return propose_spec(dataset, data, self._models, base=base, preset=preset, changes=changes)

    def estimate(self, spec: TuneSpec, *, trial: bool = False, progress: Progress | Literal[False] | None = None) -> Estimate:
        """Memory, minutes and cost before the start, by formula; `trial` runs ten steps and measures them (in a process of its own).

        Raises: as `read`; `InvalidValue` for a base that cannot be tuned.
        """
        from llmops_kit.tuning.budget import estimate_spec

        return estimate_spec(self._dataset_of(spec), spec, self._models, self._store, self._settings, trial=trial, progress=progress)

    def launch(self, spec: TuneSpec, *, owner: str = LOCAL, id: str | None = None, estimate: Estimate | None = None) -> TuneJob:
        """Start the job, or put it in line, and give a handle to it. The same `id` sent again is the same job.

        `estimate`: the one that `estimate(spec, trial=True)` gave, to be kept with the job and compared with what it takes.

        Raises: `InvalidValue` for what cannot run or cannot fit, with what would; `UnreadableFile` and `UnknownName` as `read`;
            `Busy` where the person has too many waiting.
        """
        from llmops_kit.tuning.launching import launch_tuning

        return launch_tuning(self, spec, owner=owner, id=id, estimate=estimate)

    def pretrain(self, folder: str | Path, *, name: str = "my-lm", owner: str = LOCAL, id: str | None = None, **fields: Any) -> TuneJob:
        """Train a tokenizer and a small Llama-style model on a folder of texts, with the recipe of the starter LM; `fields` of `PretrainSpec`.

        Raises: as `launch`.
        """
        from llmops_kit.tuning.launching import launch_pretraining

        return launch_pretraining(self, folder, name=name, owner=owner, id=id, fields=fields)

    # --- jobs

    def jobs(self, owner: str | None = None) -> pd.DataFrame:
        """One row per job, newest first: of one person, or (None) of all."""
        from llmops_kit.tuning.handle import list_jobs

        return list_jobs(self._jobs, owner)

    def job(self, id: str) -> TuneJob:
        """The job with this id. Raises: `UnknownName`."""
        from llmops_kit.tuning.handle import TuneJob

        return TuneJob(self._jobs, self._jobs.get(id))

    def train(self, work: Work) -> Mapping[str, Any]:
        """Carry out a tuning job; called in its process."""
        from llmops_kit.tuning.training import train_adapter

        return train_adapter(self, work)

    def train_from_scratch(self, work: Work) -> Mapping[str, Any]:
        """Carry out a pretraining job; called in its process."""
        from llmops_kit.tuning.pretraining import train_model

        return train_model(self, work)

    # --- what came out

    def card(self, model: str) -> Card:
        """What a tuned model is: base and revision, data, spec, template, metrics, samples, who. Raises: `UnknownName`."""
        from llmops_kit.tuning.card import read_card

        return read_card(self._models.get(model))

    def compare(self, model: str, *, n: int | None = None, owner: str = LOCAL, progress: Progress | Literal[False] | None = None) -> pd.DataFrame:
        """Base against tuned on the evaluation rows, as a comparison whose pairs can be judged blind (`attrs["comparison_id"]`)."""
        from llmops_kit.tuning.comparing import compare_with_base

        return compare_with_base(self._comparison(), self._models, self._settings.jobs_folder, model, n=n, owner=owner, progress=progress)

    def export(self, model: str, folder: str | Path, *, merge: bool = False) -> Path:
        """Write the adapter as a folder plain PEFT and vLLM load; `merge`: the whole model with the adapter in it, for plain transformers.

        Raises: `UnknownName`, `InvalidValue` for a model that is no adapter, `NotSaved` for the disk.
        """
        from llmops_kit.tuning.transfer import export_model

        return export_model(self._models, model, Path(folder), merge=merge)

    def add(self, folder: str | Path, *, base: str = "starter-lm", name: str | None = None) -> ModelEntry:
        """Take in an adapter made elsewhere (PEFT, safetensors), checked against its base; it is a model at once.

        Raises: `ModelRefused` for one that does not fit or is not safe, `InvalidValue` for a name that is taken.
        """
        from llmops_kit.tuning.transfer import import_adapter

        return import_adapter(self._models, self._settings, Path(folder), base=base, name=name)

    def _dataset_of(self, spec: TuneSpec) -> Dataset:
        return self.read(spec.data, columns=spec.columns, encoding=spec.encoding)
