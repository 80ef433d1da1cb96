"""What was found in a data set, as plain facts; how they are told: `report_text.py`, `report_html.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llmops_kit.personal_data import PersonalKind
from llmops_kit.tuning.dataset.leakage import Leak
from llmops_kit.tuning.dataset.rows import Bilingual, Kind, Problem


@dataclass(frozen=True)
class Finding:
    """Personal data in a row: its `line`, the `kind`, and the text with most of it hidden."""

    line: int
    kind: PersonalKind
    masked: str


@dataclass(frozen=True)
class Findings:
    """What was found in one data set for one base model. Lines are those of the source; pairs are (line, line of the one it resembles).

    `rows` were read, `kept` are different and usable, `train_rows` and `eval_rows` are how they are split by default. `tokens` are the lengths of
    the kept rows, prompt and answer, `histogram` has (from, to, rows); `truncated_share` of them are longer than `max_tokens`. `empty` are rows
    without prompt or answer (they are among the `problems`). `labels` counts short answers that repeat, or good and bad ones. `refusal` says why
    it cannot be trained on, or is None.
    """

    name: str
    kind: Kind
    format: str
    base: str
    rows: int
    kept: int
    problems: tuple[Problem, ...]
    tokens: tuple[int, ...]
    max_tokens: int | None
    histogram: tuple[tuple[int, int, int], ...]
    truncated_share: float
    duplicates: tuple[tuple[int, int], ...]
    near_duplicates: tuple[tuple[int, int], ...]
    compared: int
    empty: tuple[int, ...]
    one_sided: tuple[Bilingual, ...]
    languages: Mapping[str, int]
    personal_data: tuple[Finding, ...]
    leakage: tuple[Leak, ...]
    labels: Mapping[str, int]
    train_rows: int
    eval_rows: int
    refusal: Bilingual | None
    columns: Mapping[str, str] = field(default_factory=dict)
    available: tuple[str, ...] = ()
    encoding: str | None = None
