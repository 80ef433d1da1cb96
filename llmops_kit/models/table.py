"""The catalogue as a table: one row per model, with its size, what it needs, and whether it can answer now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.readiness import Machine, ModelState, choose_number_format, count_parameters, measure_folder

if TYPE_CHECKING:
    import pandas as pd


def tabulate(
    entries: Sequence[ModelEntry], folders: Mapping[str, Path | None], states: Mapping[str, ModelState], machine: Machine, language: str
) -> pd.DataFrame:
    """One row per entry, in `language`. `folders` are those of models on disk, by id.

    Sizes are megabytes, memory is gigabytes, prices are US dollars per million tokens (prompt / answer).
    """
    import pandas as pd

    rows = []
    for entry in entries:
        folder, state = folders.get(entry.id), states[entry.id]
        params_b = count_parameters(folder) if folder else None
        priced = entry.price_in_per_mtok is not None
        rows.append(
            {
                "id": entry.id,
                "name": entry.name(language),
                "provider": entry.provider,
                "kind": entry.kind,
                "state": state.status,
                "state_text": state.text(language),
                "size_mb": measure_folder(folder) if folder else entry.download_mb,
                "memory_gb": entry.memory_gb(choose_number_format(entry, machine), params_b=params_b),
                "context_tokens": entry.context_tokens,
                "licence": entry.licence,
                "price": f"{entry.price_in_per_mtok:g} / {entry.price_out_per_mtok:g}" if priced else None,
                "price_date": entry.price_date,
            }
        )
    return pd.DataFrame(rows)
