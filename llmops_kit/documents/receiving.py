"""Receiving files: kept by hash, archives unpacked, what is there already left out, what changed put in line to replace it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_kit.documents.files import Incoming, KeptFiles
from llmops_kit.documents.reading import Guard, ReadOptions
from llmops_kit.errors import InputError
from llmops_kit.store import Store
from llmops_kit.types import Collection, Document, new_id, now

ARCHIVES = (".zip",)
MAILS = (".eml",)
_SKIPPED = {"en": "left out of the archive: it cannot be read as a document", "ja": "文書として読めないため、アーカイブから除きました"}
_UNCHANGED = {"en": "unchanged", "ja": "変更なし"}


@dataclass(frozen=True)
class Named:
    """A file or text by its name and hash."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Received:
    """What became of one file: the document to be read (`is_new`), the one it is already, or the reason it was not taken."""

    name: str
    document: Document | None
    is_new: bool
    reason: Mapping[str, str] | None = None


class Receiving:
    """Takes files into a collection as `waiting` documents."""

    def __init__(self, store: Store, files: KeptFiles, *, max_file_mb: float, max_person_mb: float) -> None:
        self._store = store
        self._files = files
        self._max_file_mb = max_file_mb
        self._max_person_mb = max_person_mb

    def receive(self, incoming: Sequence[Incoming], collection: Collection, *, wanted: str, options: Mapping[str, Any], password: str | None = None, **told: Any) -> list[Received]:
        """Keep files and put their documents in line. `told` are further fields of the new documents: tags, dated.

        A file of a name that is there already replaces that document once it is ready; the same bytes are left out, under
        any name. Raises: InputError, where the person's documents would take more room than they may; then none is taken.
        """
        unpacked: list[Path] = []
        try:
            whole = [each for item in incoming for each in self._unpack(item, unpacked, password)]
            self.check_room(collection.owner, sum(each.path.stat().st_size for each in whole if isinstance(each, Incoming)))
            with_reason = [each for each in whole if isinstance(each, Received)]
            rest = [each for each in whole if not isinstance(each, Received)]
            return with_reason + self._put_in_line(rest, collection, wanted=wanted, options=options, **told)
        finally:
            for folder in unpacked:
                shutil.rmtree(folder, ignore_errors=True)

    def match(self, named: Sequence[Named], collection: Collection, **told: Any) -> list[Received]:
        """Documents for files or texts known by hash: new ones, told to replace those of their name, or those that are there already."""
        there = self._store.find(Document, collection_id=collection.id)
        by_hash = {each.sha256: each for each in there}
        earlier = set(by_hash)
        by_name: dict[str, list[Document]] = {}
        for each in there:
            by_name.setdefault(each.name, []).append(each)
        options = told.pop("options", {})
        received = []
        for item in named:
            known = by_hash.get(item.sha256)
            if known is not None and item.sha256 in earlier and known.state in ("waiting", "reading"):  # an earlier try ended before it was read
                received.append(Received(item.name, known, True))
                continue
            if known is not None and known.state != "quarantined":
                received.append(Received(item.name, known, False, _UNCHANGED if known.name == item.name else _same_as(known.name)))
                continue
            replaced = [each.id for each in by_name.get(item.name, [])] + ([known.id] if known and known.name != item.name else [])
            own = {**options, "replaces": replaced} if replaced else dict(options)
            by_hash[item.sha256] = Document(
                new_id(), now(), collection.id, collection.owner, item.name, item.sha256, item.size_bytes, options=own, **told
            )
            received.append(Received(item.name, by_hash[item.sha256], True))
        return received

    def _put_in_line(self, incoming: Sequence[Incoming], collection: Collection, **told: Any) -> list[Received]:
        received = self.match([Named(item.name, *self._files.keep(item.path)) for item in incoming], collection, **told)
        with self._store.change() as change:
            change.put_all(each.document for each in received if each.is_new)
        return received

    def _unpack(self, item: Incoming, unpacked: list[Path], password: str | None) -> list[Incoming | Received]:
        """The file itself, or what an archive holds; a mail with the files attached to it."""
        if item.path.stat().st_size > self._max_file_mb * 1e6:
            return [Received(item.name, None, False, _too_large(item.path.stat().st_size, self._max_file_mb))]
        suffix = Path(item.name).suffix.lower()
        if suffix not in (*ARCHIVES, *MAILS):
            return [item]
        folder = self._files.room_to_unpack()
        unpacked.append(folder)
        with Guard() as guard:
            reading = guard.expand(item.path, item.name, folder, ReadOptions(password=password))
        itself: list[Incoming | Received] = [item] if suffix in MAILS else []
        if reading.state != "read":
            return itself or [Received(item.name, None, False, reading.reason)]
        skipped = reading.facts.get("skipped", []) if suffix in ARCHIVES else []
        left_out = [Received(f"{item.name}/{name}", None, False, _SKIPPED) for name, _ in skipped]
        return [*itself, *(Incoming(f"{item.name}/{name}", Path(path)) for name, path in reading.members), *left_out]

    def check_room(self, owner: str, more: int) -> None:
        """Raises `InputError` where `more` bytes would be more than the person may keep."""
        held = sum(size for (size,) in self._store.values(Document, ("size_bytes",), owner=owner))
        if held + more > self._max_person_mb * 1e6:
            facts = f"{held / 1e6:.0f} MB + {more / 1e6:.0f} MB > {self._max_person_mb:.0f} MB"
            raise InputError(
                en=f"Your documents would take more room than they may ({facts}). Remove some first, or ask for a larger LLMOPS_MAX_DOCUMENTS_MB.",
                ja=f"文書の合計が上限を超えます（{facts}）。先に不要な文書を削除するか、LLMOPS_MAX_DOCUMENTS_MBを大きくしてもらってください。",
            )


def _too_large(size: int, limit_mb: float) -> Mapping[str, str]:
    return {
        "en": f"It has {size / 1e6:.1f} MB; at most {limit_mb:.0f} MB are taken. Split it.",
        "ja": f"{size / 1e6:.1f} MBあります（上限は{limit_mb:.0f} MB）。分割してください。",
    }


def _same_as(name: str) -> Mapping[str, str]:
    return {"en": f"the same file as “{name}”", "ja": f"「{name}」と同じファイルです"}
