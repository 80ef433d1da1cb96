"""Ratings as data to train on or to take away: `export` writes SFT, DPO or KTO rows for TRL, or a table.

export(store, "dpo", "pairs.jsonl")     # ExportReport(rows=31, left_out={"no_majority": 4})
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.errors import InvalidValue, NotSaved
from llmops_kit.feedback.export_pairs import make_dpo
from llmops_kit.feedback.export_rows import make_kto, make_sft
from llmops_kit.feedback.export_table import make_table
from llmops_kit.feedback.material import REASONS, Material, gather
from llmops_kit.playground.export import WRITERS
from llmops_kit.types import new_id

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.store import Store

Kind = Literal["sft", "dpo", "kto", "table"]
_MAKERS: Mapping[str, Callable[[Material, int], list[dict[str, Any]]]] = MappingProxyType({"sft": make_sft, "dpo": make_dpo, "kto": make_kto})
KINDS = (*_MAKERS, "table")
"""What can be exported."""
_LINE_ENDS = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "\x85\u2028\u2029"})


@dataclass(frozen=True)
class ExportReport:
    """What was written: `rows` of this `kind` to `path`, and `left_out`, how much was not taken, by reason (see `REASONS`)."""

    path: Path
    kind: str
    rows: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    def text(self, language: str = "en") -> str:
        """One sentence in `en` or `ja`."""
        reasons = [(REASONS[name][language], count) for name, count in self.left_out.items()]
        if language == "ja":
            left = "、".join(f"{reason} {count:,}件" for reason, count in reasons)
            return f"{self.path.name}に{self.rows:,}行を書き出しました。" + (f"除いたもの：{left}。" if left else "")
        left = ", ".join(f"{reason} ({count:,})" for reason, count in reasons)
        return f"{self.rows:,} row{'' if self.rows == 1 else 's'} written to {self.path.name}." + (f" Left out: {left}." if left else "")

    def _repr_markdown_(self) -> str:
        return f"{self.text('ja')}\n\n{self.text('en')}".replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")


def export(
    store: Store,
    kind: str,
    path: str | Path,
    *,
    campaign: str | None = None,
    comparison: str | None = None,
    prompts: Collection[str] | None = None,
    participants: Collection[str] | None = None,
    consent: Collection[str] | None = None,
    pseudonyms: bool = True,
    min_raters: int = 1,
) -> ExportReport:
    """Write what people said as `kind`: `sft`, `dpo` or `kto` (JSON lines for TRL), or `table` (CSV, XLSX, Parquet, JSON lines by the suffix).

    The file is written whole or not at all. `campaign` and `comparison` (ids) and `prompts` (library names) take only what belongs to
    them, `participants` only answers that these asked for; `consent` takes only these raters. Raters are given pseudonyms unless
    `pseudonyms=False`. `min_raters` must stand behind a training row. Events taken back or replaced do not count, skips neither; late
    ratings do, and the table marks them.

    Raises:
        InvalidValue: a kind or suffix there is not, `min_raters` below 1, or more rows than a sheet takes.
        NotSaved: the folder is not there or the disk refuses; a file of this name is as it was.
    """
    if kind not in KINDS:
        raise InvalidValue(name="kind", value=kind, allowed=", ".join(KINDS))
    if min_raters < 1:
        raise InvalidValue(name="min_raters", value=min_raters, allowed="≥ 1")
    target = Path(path)
    suffixes = _table_writers() if kind == "table" else {".jsonl": None}
    if target.suffix.lower() not in suffixes:
        raise InvalidValue(name="path", value=target.name, allowed=", ".join(suffixes))
    chosen = {prompts} if isinstance(prompts, str) else prompts
    material = gather(store, campaign, comparison, chosen, participants, {consent} if isinstance(consent, str) else consent, pseudonyms)
    if kind == "table":
        frame = make_table(material)
        count, data = len(frame), _table_writers()[target.suffix.lower()](frame)
    else:
        rows = _MAKERS[kind](material, min_raters)
        count, data = len(rows), b"".join(map(_line, rows))
    _write_whole(target, data)
    return ExportReport(target, kind, count, {name: material.left_out[name] for name in REASONS if material.left_out[name]})


def _table_writers() -> Mapping[str, Callable[[pd.DataFrame], bytes]]:
    return {**WRITERS, ".parquet": _to_parquet}


def _to_parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _line(row: Mapping[str, Any]) -> bytes:
    """A row as JSON; the three signs that some readers take for the end of a line, and what UTF-8 does not have, are escaped."""
    return (json.dumps(row, ensure_ascii=False) + "\n").translate(_LINE_ENDS).encode("utf-8", "backslashreplace")


def _write_whole(target: Path, data: bytes) -> None:
    partial = target.with_name(f".{new_id()}.part")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as fault:
        raise NotSaved(
            en=f"“{target}” was NOT written: {fault.strerror or fault}. Choose a folder that is there and has room.",
            ja=f"「{target}」は書き出されていません：{fault.strerror or fault}。書き込めるフォルダーを指定してください。",
            reason=fault.strerror or str(fault),
        ) from fault
    finally:
        with suppress(OSError):
            partial.unlink()
