"""What a person drops into the Documents tab: files under the names they know, folders, the sample documents, a pasted text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.documents.files import Incoming
from llmops_kit.documents.library import read_date
from llmops_kit.documents.reading.formats import kind_by_suffix
from llmops_kit.errors import InputError
from llmops_kit.ui.documents.words import tags_of
from llmops_kit.ui.documents.work import Job, Steps
from llmops_kit.ui.files import offer
from llmops_kit.ui.text import say

if TYPE_CHECKING:
    from llmops_kit.documents.ingestion import Step
    from llmops_kit.kit import Kit

_MOST_NAME = 200
_NO_NAME = re.compile(r"[\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
"""Control characters, those that turn the direction of writing among them: they can make a name look like another."""


def incoming_of(dropped: Sequence[Mapping[str, Any]] | None) -> list[Incoming]:
    """Uploaded files under the names the person knows them by: Gradio keeps the file under a cleaned one. Raises: InputError for none.

    A browser tells the names in a folder without their folders; of two equal ones the second is numbered, not taken for a new version.
    """
    found, used = [], set[str]()
    for each in dropped or []:
        name = clean_name(str(each.get("orig_name") or Path(str(each["path"])).name))
        if name.startswith((".", "~$")) and len(dropped or []) > 1:  # what systems and Office leave in folders
            continue
        found.append(Incoming(_numbered(name, used), Path(str(each["path"]))))
    if not found:
        raise InputError(en=say("documents.nothing_dropped", "en"), ja=say("documents.nothing_dropped", "ja"))
    return found


def clean_name(name: str) -> str:
    """The last part of a path, composed (macOS sends が as two characters), without control characters, of a length the store takes."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    last = _NO_NAME.sub("", last).strip()
    stem, dot, suffix = last.rpartition(".")
    if len(last) > _MOST_NAME:
        last = f"{stem[: _MOST_NAME - len(suffix) - 1]}{dot}{suffix}" if dot and len(suffix) < 10 else last[:_MOST_NAME]
    return last or "document"


def sample_files() -> list[Incoming]:
    """The documents the kit ships to try with."""
    from llmops_kit.documents import samples

    return [Incoming(each.name, each) for each in samples.sample_files()]


def pasted(name: str, text: str) -> list[Incoming]:
    """A pasted text as a file. Raises: InputError, where the text is empty."""
    if not text.strip():
        raise InputError(en=say("documents.nothing_pasted", "en"), ja=say("documents.nothing_pasted", "ja"))
    title = clean_name(name) if name.strip() else clean_name(text.strip().splitlines()[0][:30])
    path = offer("text.txt", text.replace("\r\n", "\n").encode("utf-8", "replace"))
    return [Incoming(title if kind_by_suffix(title) == "txt" else f"{title}.txt", Path(path))]


def take_in_steps(kit: Kit, incoming: Sequence[Incoming], collection: str, whose: Any, asked: Mapping[str, Any]) -> Steps:
    """Take files in with the options of the sub-tab; what was not taken is noted in the job. Raises: InvalidValue for a date that is none."""
    told = {"tags": tags_of(asked.get("tags") or ""), "dated": read_date("dated", asked.get("dated"))}
    options = {name: asked.get(name) for name in ("reader", "encoding", "ocr")}
    more: dict[str, Any] = {"review": bool(asked.get("review")), "password": asked.get("password") or None, "options": options, "told": told}

    def steps(job: Job) -> Iterator[Step]:
        paths: Any = list(incoming)
        outcome: dict[str, Any] = {}
        yield from kit.documents.take_in(paths, collection=collection, participant=whose, cancel=job.cancel, outcome=outcome, **more)
        job.left = [(each.name, each.reason) for each in outcome["received"] if each.reason is not None]

    return steps


def _numbered(name: str, used: set[str]) -> str:
    stem, dot, suffix = name.rpartition(".")
    candidate, number = name, 2
    while candidate in used:
        candidate, number = (f"{stem} ({number}){dot}{suffix}" if dot else f"{name} ({number})"), number + 1
    used.add(candidate)
    return candidate
