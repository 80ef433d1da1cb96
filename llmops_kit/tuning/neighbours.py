"""What fine-tuning needs of the ratings and the comparisons; `kit` gives it both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd


class Exports(Protocol):
    """What makes training data of people's ratings: `kit.feedback`."""

    def export(self, kind: str, path: str | Path, campaign: Any = None, **how: Any) -> Any:
        """Write rows of `kind` (sft, dpo, kto) to `path`; the report has `.rows` and `.left_out`."""
        ...


class Compares(Protocol):
    """What lets several models answer a test set and keeps it: `kit.comparison`."""

    def batch(self, prompt: Any = None, models: Any = None, rows: Any = None, **options: Any) -> pd.DataFrame:
        """One row per item, one column per model; `attrs["comparison_id"]` names the comparison."""
        ...

    def deltas(self, comparison_id: str, baseline: str | None = None) -> pd.DataFrame:
        """The paired differences to the baseline, with intervals."""
        ...
