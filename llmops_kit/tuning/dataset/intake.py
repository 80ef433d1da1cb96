"""Where rows come from: a file, a bundled sample, a campaign's ratings, the votes on a comparison, a list or a DataFrame. All become one table of text."""

from __future__ import annotations

import io
import json
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import InvalidValue
from llmops_kit.playground.decoding import absent, refused
from llmops_kit.playground.rows import RowTable, read_rows
from llmops_kit.tuning.dataset.signatures import HEAD_BYTES, describe_zip, find_reason
from llmops_kit.tuning.spec import RATINGS
from llmops_kit.types import to_plain

if TYPE_CHECKING:
    from llmops_kit.tuning.neighbours import Exports

SAMPLES_FOLDER = Path(__file__).parent.parent / "samples"
MAX_ROWS = 1_000_000
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson", ".txt", "")


@dataclass(frozen=True)
class Intake:
    """The rows of a source as text, what it is called, and where it is from."""

    name: str
    source: str
    table: RowTable


def take_in(source: Any, *, encoding: str | None, max_mb: float, campaigns: Callable[[], Exports] | None) -> Intake:
    """Read the rows of `source`, at most `max_mb` megabytes of them.

    Raises: `UnreadableFile` with the reason; `UnknownName` for a sample or campaign that is not there; `InvalidValue` for a source
        that is none of these.
    """
    if isinstance(source, str) and source.startswith("sample:"):
        name = source.removeprefix("sample:")
        return Intake(name, source, _read_file(_find_sample(name), encoding, max_mb))
    if isinstance(source, str) and source.startswith(RATINGS):
        return _take_ratings(source, max_mb, campaigns)
    if isinstance(source, (str, Path)):
        path = Path(source)
        return Intake(path.stem, str(source), _read_file(path, encoding, max_mb))
    if callable(getattr(source, "to_dict", None)) and hasattr(source, "notna"):
        source = source.astype(object).where(source.notna(), None).to_dict("records")
    if isinstance(source, Iterable) and not isinstance(source, (bytes, Mapping)):
        return Intake("rows", "rows", _read_mappings(list(source), max_mb))
    raise InvalidValue(name="data", value=type(source).__name__, allowed="file, sample:NAME, campaign:ID, comparison:ID, list of mappings, DataFrame")


def list_samples() -> tuple[str, ...]:
    """The names of the bundled sets, for `sample:NAME`."""
    return tuple(sorted(path.stem for path in SAMPLES_FOLDER.glob("*.jsonl")))


def _find_sample(name: str) -> Path:
    if name not in list_samples():
        raise absent(name, en="sample", ja="サンプル", known=list_samples())
    return SAMPLES_FOLDER / f"{name}.jsonl"


def _take_ratings(source: str, max_mb: float, campaigns: Callable[[], Exports] | None) -> Intake:
    """The rows that the ratings of a campaign or the votes on a comparison make: `campaign:ID`, or `campaign:ID:dpo` for one kind.

    Without a kind: pairs where there are any, then good and bad answers where there are both, else answers to copy.
    """
    place, id, kind = (*source.split(":", 2), "")[:3]
    if campaigns is None:
        raise InvalidValue(name="data", value=source, allowed="file, sample:NAME")
    if kind and kind not in ("sft", "dpo", "kto"):
        raise InvalidValue(name="data", value=source, allowed=", ".join(f"{place}:{id}:{each}" for each in ("sft", "dpo", "kto")))
    exports = campaigns()
    with tempfile.TemporaryDirectory() as folder:
        for wanted in (kind,) if kind else ("dpo", "kto", "sft"):
            path = Path(folder) / f"{wanted}.jsonl"
            exports.export(wanted, path, **{place: id})
            if path.stat().st_size and (kind or wanted != "kto" or _has_both_labels(path)):
                return Intake(f"{place}-{id[:8]}", source, read_rows(path, file=source, max_mb=max_mb, max_rows=MAX_ROWS, lenient=True, kind=".jsonl"))
    en = "nobody has rated anything in it yet that can be trained on"
    raise refused(source, en, "学習に使える評価がまだありません")


def _has_both_labels(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return '"label": true' in text and '"label": false' in text


def _read_mappings(rows: list[Any], max_mb: float) -> RowTable:
    if not rows:
        raise refused("rows", "it has no rows", "行がありません")
    text = json.dumps(rows, ensure_ascii=False, default=to_plain)
    return read_rows(text.encode("utf-8", "backslashreplace"), file="rows", max_mb=max_mb, max_rows=MAX_ROWS, lenient=True, kind=".json")


def _read_file(path: Path, encoding: str | None, max_mb: float) -> RowTable:
    data = _load(path, max_mb)
    if reason := find_reason(data[:HEAD_BYTES]):
        raise refused(path.name, f"it is {reason[0]}", reason[1])
    kind = _find_kind(path, data)
    return read_rows(data, file=path.name, encoding=encoding, max_mb=max_mb, max_rows=MAX_ROWS, lenient=True, kind=kind)


def _load(path: Path, max_mb: float) -> bytes:
    """The bytes of an ordinary file that is not too large; only its size is looked at before that is known."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise refused(path.name, "it is no ordinary file", "通常のファイルではありません")
        if found.st_size > max_mb * 1e6:
            en = f"it has {found.st_size / 1e6:,.1f} MB; at most {max_mb:g} MB are read. Take part of its rows"
            raise refused(path.name, en, f"{found.st_size / 1e6:,.1f} MBあります（上限は{max_mb:g} MBです）。一部の行だけにしてください")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as fault:
        raise refused(path.name, "there is no such file", "ファイルがありません") from fault
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise refused(path.name, reason, f"開けませんでした（{reason}）") from fault


def _find_kind(path: Path, data: bytes) -> str | None:
    """The format by content where the name says JSON, text or nothing; None leaves it to the name."""
    if data.startswith(b"PK\x03\x04"):
        try:
            reason = describe_zip(zipfile.ZipFile(io.BytesIO(data)).namelist())
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as fault:
            raise refused(path.name, "it is a damaged ZIP or XLSX file", "ZIPかXLSXが壊れています") from fault
        if reason:
            raise refused(path.name, f"it is {reason[0]}", reason[1])
        return ".xlsx"
    suffix = path.suffix.lower()
    if suffix not in _JSON_SUFFIXES:
        return None
    lines = [line.strip() for line in data[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
    first, rest = (lines[0] if lines else b""), lines[1:]
    as_lines = suffix in (".jsonl", ".ndjson")
    if first[:1] == b"{" and first != b"{":
        return ".jsonl" if as_lines or (rest and rest[0][:1] == b"{") else ".json"
    if first[:1] in (b"[", b"{"):
        return ".jsonl" if as_lines and first[:1] == b"[" and first[-1:] == b"]" and rest else ".json"
    return None
