"""Receiving files: kept by hash, archives unpacked, what is there already left out, what changed put in line to replace it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmops_kit.documents.files import Incoming, KeptFiles, name_of
from llmops_kit.documents.reading import Guard, ReadOptions
from llmops_kit.errors import InputError, UnknownName, UnreadableFile
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

    def receive(
        self, incoming: Sequence[Incoming], collection: Collection, *, wanted: str, options: Mapping[str, Any], password: str | None = None, **told: Any
    ) -> list[Received]:
        """Keep files and put their documents in line. `told` are further fields of the new documents: tags, dated.

        A file of a name that is there already replaces that document once it is ready; the same bytes are left out, under
        any name, unless they could not be read before and there is now a password or another option to try.

        Raises:
            InputError: the person's documents would take more room than they may; then none is taken.
            UnknownName: the collection was removed meanwhile.
        """
        unpacked: list[Path] = []
        try:
            with Guard() as guard:  # a process only where there is something to unpack
                whole = [each for item in incoming for each in self._unpack(item, unpacked, guard, password)]
            with_reason = [each for each in whole if isinstance(each, Received)]
            rest = [each for each in whole if not isinstance(each, Received)]
            self._check_sum(0, sum(_size_of(each.path) for each in rest))
            more: dict[str, Any] = {"wanted": wanted, "options": options, "is_answer": bool(password or options)}
            return with_reason + self._put_in_line(rest, collection, **more, **told)
        finally:
            for folder in unpacked:
                shutil.rmtree(folder, ignore_errors=True)

    def match(
        self, named: Sequence[Named], collection: Collection, *, options: Mapping[str, Any] | None = None, is_answer: bool = False, **told: Any
    ) -> list[Received]:
        """Documents for files or texts known by hash: new ones, told to replace those of their name, or those that are there already.

        `is_answer`: there is something to try with documents that ask.
        """
        there = self._store.find(Document, collection_id=collection.id)
        by_hash = {each.sha256: each for each in there}
        earlier, coming = set(by_hash), {item.sha256 for item in named}
        by_name: dict[str, list[Document]] = {}
        for each in there:
            by_name.setdefault(each.name, []).append(each)
        received = []
        for item in named:
            known = by_hash.get(item.sha256)
            was_here = known is not None and item.sha256 in earlier
            if known is not None and was_here and known.state in ("waiting", "reading"):  # an earlier try ended before it was read
                again = {**(options or {}), **{name: value for name, value in known.options.items() if name == "replaces"}}
                received.append(Received(item.name, replace(known, options=again, **told), True))
                continue
            if known is not None and known.state == "asks" and not is_answer:
                received.append(Received(item.name, known, False, known.reason))
                continue
            if known is not None and known.state not in ("quarantined", "asks"):
                received.append(Received(item.name, known, False, _UNCHANGED if known.name == item.name else _same_as(known.name)))
                continue
            # Of several files with one name (from several folders) those whose bytes come again are not replaced by another one.
            replaced = [each.id for each in by_name.get(item.name, []) if each.sha256 == item.sha256 or each.sha256 not in coming]
            replaced += [known.id] if known is not None and was_here and known.id not in replaced else []
            own = {**(options or {}), "replaces": replaced} if replaced else dict(options or {})
            fresh = Document(new_id(), now(), collection.id, collection.owner, item.name, item.sha256, item.size_bytes, options=own, **told)
            by_hash[item.sha256] = fresh
            received.append(Received(item.name, fresh, True))
        return received

    def check_room(self, owner: str, received: Sequence[Received]) -> None:
        """Raises `InputError` where the new documents among these, less what they replace, would be more than the person may keep."""
        held = {id: size for id, size in self._store.values(Document, ("id", "size_bytes"), owner=owner)}
        fresh = [each.document for each in received if each.is_new and each.document is not None and each.document.id not in held]
        gone = {id for each in fresh for id in each.options.get("replaces", ())}
        self._check_sum(sum(size for id, size in held.items() if id not in gone), sum(each.size_bytes for each in fresh))

    def _put_in_line(self, incoming: Sequence[Incoming], collection: Collection, **told: Any) -> list[Received]:
        named: list[tuple[Named, Path]] = []
        refused: list[Received] = []
        try:
            for item in incoming:
                try:
                    named.append((Named(item.name, *self._files.keep(item.path)), item.path))
                except UnreadableFile as fault:  # this one alone: it is gone, or not ours to read
                    refused.append(Received(item.name, None, False, {"en": fault.text("en"), "ja": fault.text("ja")}))
            with self._files.changing:  # two who add the same file get one document; what is kept is not removed before it is needed
                received = self.match([each for each, _ in named], collection, **told)
                self.check_room(collection.owner, received)
                self._store_waiting(received, collection)
                for each, path in named:
                    if not self._files.path(each.sha256).is_file():
                        self._files.keep(path)
        except BaseException:
            self._files.forget_all({each.sha256 for each, _ in named}, self._store)
            raise
        return [*refused, *received]

    def _store_waiting(self, received: Sequence[Received], collection: Collection) -> None:
        fresh = {each.document.id: each.document for each in received if each.is_new and each.document is not None}
        with self._store.change() as change:
            if not change.find(Collection, id=collection.id):
                raise UnknownName(
                    en=f"The collection “{collection.name}” was removed meanwhile. Add the files to another one.",
                    ja=f"コレクション「{collection.name}」は削除されました。ほかのコレクションに追加してください。",
                    kind="collection",
                    name=collection.name,
                )
            there = {each.id for each in change.find(Document, id=list(fresh))}
            for document in fresh.values():
                if document.id in there:  # its state is that of whoever takes it in
                    change.update(Document, document.id, options=document.options, wanted=document.wanted, tags=document.tags, dated=document.dated)
            change.put_all(document for document in fresh.values() if document.id not in there)

    def _unpack(self, item: Incoming, unpacked: list[Path], guard: Guard, password: str | None) -> list[Incoming | Received]:
        """The file itself, or what an archive holds; a mail with the files attached to it."""
        if (size := _size_of(item.path)) > self._max_file_mb * 1e6:
            return [Received(item.name, None, False, _too_large(size, self._max_file_mb))]
        suffix = Path(item.name).suffix.lower()
        if suffix not in (*ARCHIVES, *MAILS) or not item.path.is_file():
            return [item]
        folder = self._files.room_to_unpack()
        unpacked.append(folder)
        reading = guard.expand(item.path, item.name, folder, ReadOptions(password=password))
        itself: list[Incoming | Received] = [item] if suffix in MAILS else []
        if reading.state != "read":
            return itself or [Received(item.name, None, False, reading.reason)]
        skipped = reading.facts.get("skipped", []) if suffix in ARCHIVES else []
        left_out = [Received(f"{item.name}/{name_of(name)}", None, False, _SKIPPED) for name, _ in skipped]
        return [*itself, *(Incoming(f"{item.name}/{name_of(name)}", Path(path)) for name, path in reading.members), *left_out]

    def _check_sum(self, held: int, more: int) -> None:
        if held + more > self._max_person_mb * 1e6 and more:
            facts = f"{held / 1e6:.0f} MB + {more / 1e6:.0f} MB > {self._max_person_mb:.0f} MB"
            raise InputError(
                en=f"Your documents would take more room than they may ({facts}). Remove some first, or ask for a larger LLMOPS_MAX_DOCUMENTS_MB.",
                ja=f"文書の合計が上限を超えます（{facts}）。先に不要な文書を削除するか、LLMOPS_MAX_DOCUMENTS_MBを大きくしてもらってください。",
            )


def _size_of(path: Path) -> int:
    """Bytes of a file; 0 where it is gone, which is said when it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _too_large(size: int, limit_mb: float) -> Mapping[str, str]:
    return {
        "en": f"It has {size / 1e6:.1f} MB; at most {limit_mb:.0f} MB are taken. Split it.",
        "ja": f"{size / 1e6:.1f} MBあります（上限は{limit_mb:.0f} MB）。分割してください。",
    }


def _same_as(name: str) -> Mapping[str, str]:
    return {"en": f"the same file as “{name}”", "ja": f"「{name}」と同じファイルです"}
