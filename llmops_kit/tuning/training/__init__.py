"""The training of an adapter, in the process of its job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmops_kit.tuning.spec import TuneSpec

if TYPE_CHECKING:
    from llmops_kit.jobs import Work
    from llmops_kit.tuning import Tuning


def train_adapter(tuning: Tuning, work: Work) -> Mapping[str, Any]:
    """Carry out the job `work`, whose spec is that of a `TuneSpec`, and give its result: the adapter's model and the figures of the run.

    Starts from the newest whole checkpoint in the job's folder, if there is one. A job that is cancelled saves a checkpoint and publishes
    the adapter as it is then; its result has `stopped`.

    Raises: `Diverged` where the loss is no number any more, `InvalidValue` for a spec that does not fit the base or the data, `NotSaved`
        where the adapter cannot be written; as `Models.open_trainable`.
    """
    spec = TuneSpec(**work.job.spec)
    if spec.is_preference:
        from llmops_kit.tuning.training.preferences import train_preferences

        return train_preferences(tuning, work)
    from llmops_kit.tuning.training.running import run

    return run(tuning, work, spec)
