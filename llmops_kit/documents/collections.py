"""Collections: documents that are searched together, whose they are, and who may use them."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llmops_kit.errors import AccessDenied, InvalidValue, UnknownName
from llmops_kit.store import Store
from llmops_kit.types import Collection, Document, new_id, now

DEFAULT = "default"
MAX_NAME = 120
Participants = str | Sequence[str]
"""Who asks: one participant, or several where a person may also use what another name of theirs made (the first one is theirs)."""


def names_of(participant: Participants) -> tuple[str, ...]:
    """The participants as a tuple."""
    return (participant,) if isinstance(participant, str) else tuple(participant)


class Collections:
    """The collections of a workspace. Everything here asks in the name of a participant, who finds their own and shared ones."""

    def __init__(self, store: Store, *, embedder: str) -> None:
        self._store = store
        self._embedder = embedder
        self._naming = threading.Lock()

    def visible(self, participant: Participants) -> list[Collection]:
        """The participant's own collections, then those others share, oldest first."""
        names = names_of(participant)
        every = self._store.find(Collection, newest_first=False)
        return [each for each in every if each.owner in names] + [each for each in every if each.owner not in names and each.shared]

    def get(self, name: str, participant: Participants) -> Collection:
        """A collection by name or id. Raises: UnknownName."""
        visible = self.visible(participant)
        name = unicodedata.normalize("NFC", name).strip()
        for collection in visible:
            if name in (collection.name, collection.id):
                return collection
        known = ", ".join(each.name for each in visible) or "–"
        raise UnknownName(
            en=f"There is no collection named “{name}”. Known: {known}. Add documents to make one: kit.documents.add(paths, collection=…).",
            ja=f"コレクション「{name}」はありません。使えるもの：{known}。kit.documents.add(paths, collection=…)で文書を追加すると作られます。",
            kind="collection",
            name=name,
            known=known,
        )

    def own(self, name: str, participant: Participants) -> Collection:
        """A collection the participant may change. Raises: UnknownName, AccessDenied."""
        collection = self.get(name, participant)
        if collection.owner not in names_of(participant):
            raise AccessDenied(resource=f"“{collection.name}” / 「{collection.name}」")
        return collection

    def open(self, name: str, participant: Participants) -> Collection:
        """The participant's collection of this name, made if it is not there. Raises: InvalidValue, AccessDenied."""
        names, name = names_of(participant), _check_name(name)
        with self._naming:  # two who open it at once get the same one
            visible = self.visible(participant)
            for each in visible:
                if each.owner in names and name in (each.name, each.id):
                    return each
            if any(each.id == name for each in visible):
                raise AccessDenied(resource=f"“{name}” / 「{name}」")
            collection = Collection(new_id(), now(), names[0], name, embedder=self._embedder)
            with self._store.change() as change:
                change.put(collection)
        return collection

    def own_document(self, id: str, participant: Participants) -> tuple[Document, Collection]:
        """A document the participant may change, with its collection. Raises: UnknownName, AccessDenied."""
        document, collection = self.document(id, participant)
        if collection.owner not in names_of(participant):
            raise AccessDenied(resource=f"“{document.name}” / 「{document.name}」")
        return document, collection

    def document(self, id: str, participant: Participants) -> tuple[Document, Collection]:
        """A document the participant may read, with its collection. Raises: UnknownName."""
        document = self._store.get(Document, id)
        collection = None if document is None else self._store.get(Collection, document.collection_id)
        if document is None or collection is None or not (collection.shared or collection.owner in names_of(participant)):
            raise UnknownName(
                en=f"There is no document with the id “{id}”. kit.documents.table() lists them.",
                ja=f"id「{id}」の文書はありません。kit.documents.table()で一覧を確かめてください。",
                kind="document",
                name=id,
            )
        return document, collection

    def rename(self, collection: Collection, name: str) -> Collection:
        """Give a collection another name. Raises: InvalidValue, where the name is empty, too long or taken."""
        name = _check_name(name)
        with self._naming:
            if any(each.name == name and each.id != collection.id for each in self._store.find(Collection, owner=collection.owner)):
                raise InvalidValue(
                    en=f"There is already a collection “{name}”. Choose another name.",
                    ja=f"コレクション「{name}」は既にあります。別の名前にしてください。",
                    name="name",
                    value=name,
                )
            return self.set(collection, name=name)

    def set(self, collection: Collection, **values: Any) -> Collection:
        """Set single fields of a collection and give it back; what others change of it meanwhile stays."""
        with self._store.change() as change:
            change.update(Collection, collection.id, **values)
        return replace(collection, **values)


def _check_name(name: str) -> str:
    name = unicodedata.normalize("NFC", name).strip()
    if not name or len(name) > MAX_NAME or any(sign < " " for sign in name):
        allowed = {"en": f"1–{MAX_NAME} characters on one line", "ja": f"改行のない1～{MAX_NAME}文字"}
        raise InvalidValue(name="name", value=name[:40], allowed=allowed)
    return name
