"""The lines of Python behind the Fine-tune tab: what its code drawers show, and what the tests run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops_kit.tuning import TuneSpec
from llmops_kit.ui.code import opening


def spec_code(workspace: Path, spec: TuneSpec, data_name: str) -> str:
    """Code that looks at the data, estimates and launches; `data_name` is what an uploaded file is called."""
    given = spec.change(data=data_name).model_dump(exclude_defaults=True)
    fields = "".join(f"    {name}={value!r},\n" for name, value in given.items())
    head = opening(workspace).replace("open_kit\n", "TuneSpec, open_kit\n", 1)
    options = "".join(f", {name}={value!r}" for name, value in (("columns", spec.columns), ("encoding", spec.encoding)) if value)
    check = f"report = kit.tuning.check({data_name!r}, base={spec.base!r}{options})\n"
    return f"{head}{check}spec = TuneSpec(\n{fields})\nkit.tuning.estimate(spec)\njob = kit.tuning.launch(spec)\njob.wait()\njob.metrics()\n"


def job_code(workspace: Path, id: str) -> str:
    """Code that finds a job again and reads what happened in it."""
    return f"{opening(workspace)}job = kit.tuning.job({id!r})\njob.metrics()\njob.samples()\nprint(job.log())\n"


def adapter_code(workspace: Path, model: str) -> str:
    """Code that reads the card of an adapter, compares it with its base and writes it as a folder."""
    calls = (f"card({model!r})", f"compare({model!r})", f"export({model!r}, 'my-adapter')")
    return opening(workspace) + "".join(f"kit.tuning.{call}\n" for call in calls)


def scratch_code(workspace: Path, folder: str, fields: Mapping[str, Any]) -> str:
    """Code that trains a model from scratch on a folder of texts. Fields that are unset are left out."""
    options = "".join(f", {name}={value!r}" for name, value in fields.items() if value not in (None, ""))
    return f"{opening(workspace)}job = kit.tuning.pretrain({folder!r}{options})\njob.wait()\njob.samples()\n"
