"""The work on one file, inside the guarded child: find its format, call its reader, and put what came out (or the refusal) into JSON."""

from __future__ import annotations

import errno
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from llmops_kit.documents.reading import quality
from llmops_kit.documents.reading.formats import FORMATS, detect, is_renamed, kind_by_suffix
from llmops_kit.documents.reading.records import Asks, Limits, ReadOptions, Unreadable

Answer = dict[str, Any]


def answer(job: Mapping[str, Any], limits: Limits) -> bytes:
    """Do `job` and describe the outcome as UTF-8 JSON. Never raises for what the file does."""
    facts: Answer
    try:
        facts = _ACTIONS[job["do"]](job, limits)
    except Unreadable as refused:
        facts = {"state": "quarantined", "key": refused.key, "facts": refused.facts}
    except Asks as question:
        facts = {"state": "asks", "key": question.key, "facts": question.facts}
    except MemoryError:
        facts = {"state": "quarantined", "key": "memory", "facts": {"allowed": limits.memory_bytes >> 20}}
    except Exception as fault:  # noqa: BLE001 — a reader may fail in any way; the next file goes on
        facts = {"state": "quarantined", **_fault(fault, job, limits)}
    return json.dumps(facts, ensure_ascii=False, default=str).encode("utf-8", "replace")


def libraries(job: Mapping[str, Any]) -> list[str]:
    """The modules a job needs: the format's own (by the suffix of the name) and what it lists in PRELOAD."""
    kind = "pdf" if job["do"] == "render" else kind_by_suffix(str(job.get("name", "")))
    if kind is None:
        return []
    module = FORMATS[kind].reader.partition(":")[0]
    try:
        preload: Mapping[str, tuple[str, ...]] = getattr(importlib.import_module(module), "PRELOAD", {})
    except ImportError:
        return []
    chosen = str((job.get("options") or {}).get("reader") or "")
    return [*preload.get("", ()), *(preload.get(chosen, ()) if chosen else ())]


def _fault(fault: Exception, job: Mapping[str, Any], limits: Limits) -> Answer:
    if isinstance(fault, FileNotFoundError):
        return {"key": "missing_file", "facts": {}}
    if isinstance(fault, OSError) and fault.errno == errno.EFBIG:
        return {"key": "output", "facts": {"allowed": limits.written_bytes >> 20}}
    if isinstance(fault, ImportError):
        package = str(fault.name or fault).partition(".")[0]
        return {"key": "missing_package", "facts": {"package": package, "command": "pip install -U llmops_kit"}}
    kind = kind_by_suffix(str(job.get("name", ""))) or "?"
    return {"key": "broken", "facts": {"kind": kind.upper(), "detail": f"{type(fault).__name__}: {str(fault)[:200]}"}}


def _load(job: Mapping[str, Any], limits: Limits) -> bytes:
    path = Path(job["path"])
    size = path.stat().st_size
    if size > limits.input_bytes:
        raise Unreadable("too_large", found=size >> 20, allowed=limits.input_bytes >> 20)
    data = path.read_bytes()
    if not data:
        raise Unreadable("empty")
    return data


def _read(job: Mapping[str, Any], limits: Limits) -> Answer:
    data, name, options = _load(job, limits), str(job["name"]), ReadOptions.from_dict(job.get("options", {}))
    kind = detect(data, name)
    module, _, function = FORMATS[kind].reader.partition(":")
    if function == "expand":
        if kind_by_suffix(name) == kind:  # an archive among the members of another: those given by a person are expanded
            raise Unreadable("archive_nested")
        raise Unreadable("mismatch", suffix=Path(name).suffix, found=kind.upper())
    read: Callable[[bytes, str, ReadOptions], Any] = getattr(importlib.import_module(module), function)
    try:
        raw = read(data, name, options)
    except Unreadable as refused:
        refused.facts.setdefault("kind", kind.upper())
        raise
    if is_renamed(kind, name):
        raw.warnings.append("renamed")
    return quality.describe(raw, kind, limits)


def _expand(job: Mapping[str, Any], limits: Limits) -> Answer:
    from llmops_kit.documents.reading.archive import expand

    data, options = _load(job, limits), ReadOptions.from_dict(job.get("options", {}))
    found = expand(data, str(job["name"]), Path(job["into"]), options)
    return {"state": "read", "kind": "zip", "reader": "zip", "members": found.members, "warnings": found.warnings, "facts": {"skipped": found.skipped}}


def _render(job: Mapping[str, Any], limits: Limits) -> Answer:
    from base64 import b64encode

    from llmops_kit.documents.reading.pdf_render import render_page

    options = ReadOptions.from_dict(job.get("options", {}))
    span = (int(job["span"][0]), int(job["span"][1])) if job.get("span") else None
    data = _load(job, limits)
    rendered = render_page(
        data, int(job["page"]), span=span, width_px=int(job["width_px"]), text=job.get("text"), password=options.password, pixels=limits.pixels
    )
    return {"state": "read", "png": b64encode(rendered.png).decode(), "boxes": asdict(rendered)["boxes"]}


_ACTIONS: Final[Mapping[str, Callable[[Mapping[str, Any], Limits], Answer]]] = {"read": _read, "expand": _expand, "render": _render}
