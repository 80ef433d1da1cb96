"""What there is: tables of documents, collections and pages, names and tags, and everything to take home as one file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from llmops_kit.documents.chunking import document_text
from llmops_kit.documents.collections import Collections, Participants
from llmops_kit.documents.files import KeptFiles, name_of
from llmops_kit.errors import InvalidValue, WorkspaceError
from llmops_kit.types import Chunk, Collection, Document, Page

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.store import Store

COLUMNS = (
    *("name", "state", "kind", "pages", "characters", "chunks", "warnings", "reason"),
    *("reader", "encoding", "size_bytes", "tags", "dated", "created_at", "collection", "id"),
)
_NAME_CHARACTERS = 200


class Library:
    """The documents of a workspace as tables, in the name of a participant."""

    def __init__(self, store: Store, shelves: Collections, files: KeptFiles) -> None:
        self._store = store
        self._shelves = shelves
        self._files = files

    def table(self, collection: str | None, participant: Participants) -> pd.DataFrame:
        """See `Documents.table`."""
        chosen = self._shelves.visible(participant) if collection is None else [self._shelves.get(collection, participant)]
        names = {each.id: each.name for each in chosen}
        documents = self._store.find(Document, collection_id=list(names), newest_first=False) if names else []
        return describe([(each.name, each, None) for each in documents], names)

    def collections(self, participant: Participants) -> pd.DataFrame:
        """See `Documents.collections`."""
        import pandas as pd

        rows = []
        for each in self._shelves.visible(participant):
            documents = self._store.values(Document, ("state", "chunks"), collection_id=each.id)
            ready = [chunks for state, chunks in documents if state == "ready"]
            rows.append(
                {
                    "name": each.name,
                    "documents": len(documents),
                    "ready": len(ready),
                    "chunks": sum(ready),
                    "embedder": each.embedder,
                    "dimensions": each.dimensions,
                    "chunker": each.chunker,
                    "shared": each.shared,
                    "owner": each.owner,
                    "created_at": each.created_at,
                    "id": each.id,
                }
            )
        columns = ("name", "documents", "ready", "chunks", "embedder", "dimensions", "chunker", "shared", "owner", "created_at", "id")
        return pd.DataFrame(rows, columns=list(columns))

    def pages(self, id: str, participant: Participants) -> pd.DataFrame:
        """See `Documents.pages`."""
        import pandas as pd

        document, _ = self._shelves.document(id, participant)
        rows = []
        for page in self._store.find(Page, document_id=document.id, newest_first=False):
            facts = {name: value for name, value in page.facts.items() if name not in ("headings", "width_pt", "height_pt")}
            rows.append({"page": page.number, "label": page.label, "dropped": page.dropped, **facts, "reader": page.reader, "text": page.text})
        return pd.DataFrame(rows)

    def text(self, id: str, participant: Participants) -> str:
        """See `Documents.text`."""
        document, _ = self._shelves.document(id, participant)
        return document_text(self._store.find(Page, document_id=document.id, newest_first=False))

    def rename(self, id: str, name: str, participant: Participants) -> Document:
        """See `Documents.rename`."""
        document, _ = self._shelves.own_document(id, participant)
        name = name_of(name.strip())
        if not name or len(name) > _NAME_CHARACTERS or any(sign < " " for sign in name):
            allowed = {"en": f"1–{_NAME_CHARACTERS} characters on one line", "ja": f"改行のない1～{_NAME_CHARACTERS}文字"}
            raise InvalidValue(name="name", value=name[:40], allowed=allowed)
        return self._set(document, name=name)

    def tag(self, id: str, tags: Sequence[str], dated: str | None, participant: Participants) -> Document:
        """See `Documents.tag`."""
        document, _ = self._shelves.own_document(id, participant)
        cleaned = tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
        return self._set(document, tags=cleaned, **({"dated": dated} if dated else {}))

    def share(self, collection: str, shared: bool, participant: Participants) -> Collection:
        """See `Documents.share`."""
        return self._shelves.set(self._shelves.own(collection, participant), shared=shared)

    def export(self, collection: str, path: Path, participant: Participants) -> Path:
        """See `Documents.export`."""
        chosen = self._shelves.get(collection, participant)
        documents = self._store.find(Document, collection_id=chosen.id, newest_first=False)
        try:
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                used: set[str] = set()
                for document in documents:
                    file = self._files.path(document.sha256)
                    inside = f"files/{_safe_name(document.name, used)}"
                    if file.is_file():
                        archive.write(file, inside)
                    else:  # a pasted text: its page is all there is of it
                        archive.writestr(inside, "".join(page.text for page in self._store.find(Page, document_id=document.id, newest_first=False)))
                archive.writestr("documents.csv", _to_csv(describe([(each.name, each, None) for each in documents], {chosen.id: chosen.name})))
                with archive.open("chunks.jsonl", "w", force_zip64=True) as raw, io.TextIOWrapper(raw, encoding="utf-8") as lines:
                    names = {document.id: document.name for document in documents}
                    for batch in self._store.scan(Chunk, collection_id=chosen.id):
                        for chunk in batch:
                            lines.write(json.dumps(_plain(chunk, names), ensure_ascii=False) + "\n")
        except OSError as error:
            raise WorkspaceError(path=path, reason=str(error)) from error
        return path

    def _set(self, document: Document, **values: Any) -> Document:
        """Change what a person says of a document, and nothing of what work under way makes of it meanwhile."""
        with self._store.change() as change:
            change.update(Document, document.id, **values)
        return replace(document, **values)


def describe(rows: Sequence[tuple[str, Document | None, Mapping[str, str] | None]], collections: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A table of documents: (name, document or None, another reason) each. A reason is told in English, then Japanese."""
    import pandas as pd

    told = []
    for name, document, other in rows:
        reason = other or (document.reason if document else None) or {}
        values: dict[str, Any] = {"name": name, "state": document.state if document else "quarantined"}
        if document is not None:
            values |= {column: getattr(document, column) for column in COLUMNS if column not in ("name", "state", "reason", "collection", "warnings", "tags")}
            values |= {"warnings": ", ".join(document.warnings), "tags": ", ".join(document.tags)}
            values["collection"] = (collections or {}).get(document.collection_id, "")
        values["reason"] = " / ".join(text for text in (reason.get("en"), reason.get("ja")) if text)
        told.append(values)
    return pd.DataFrame(told, columns=list(COLUMNS))


def _plain(chunk: Chunk, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "document": names.get(chunk.document_id, ""),
        **{name: getattr(chunk, name) for name in ("position", "page", "line", "start", "end", "heading", "text")},
    }


def _safe_name(name: str, used: set[str]) -> str:
    """A name inside the archive that leads nowhere else and comes once."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    safe = "/".join(parts) or "document"
    candidate, number = safe, 2
    while candidate in used:
        candidate, number = f"{number}-{safe}", number + 1
    used.add(candidate)
    return candidate


def _to_csv(table: pd.DataFrame) -> bytes:
    from llmops_kit.playground import export

    return export.to_csv(table)


def read_date(name: str, value: str | None) -> str | None:
    """A date as YYYY-MM-DD, None where none is given. Raises: InvalidValue."""
    import datetime

    if value is None or not str(value).strip():
        return None
    try:
        return datetime.date.fromisoformat(str(value).strip()[:10]).isoformat()
    except ValueError:
        raise InvalidValue(name=name, value=value, allowed="YYYY-MM-DD") from None
