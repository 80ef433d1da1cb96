"""What jobs need of the store, which is an adapter like themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from llmops_kit.errors import InvalidValue, UnknownName
from llmops_kit.types import Job

Record = TypeVar("Record")
Result = TypeVar("Result")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,35}")  # the name of a folder, and 36 characters of a column


class Change(Protocol):
    """One transaction: nobody else changes what it found until it ends."""

    def append(self, record: Any) -> bool:
        """Write `record` unless its id is there already."""

    def find(self, kind: type[Record], **equal: Any) -> list[Record]:
        """The records whose columns equal the given values (a list means any of them), oldest first, locked."""

    def update(self, kind: type, id: str, **values: Any) -> bool:
        """Set only these columns of the record with this id."""


class JobStore(Protocol):
    """Where jobs and their events are kept."""

    def get(self, kind: type[Record], id: str) -> Record | None:
        """The record with this id, or None."""

    def find(self, kind: type[Record], *, limit: int | None = None, newest_first: bool = True, **equal: Any) -> list[Record]:
        """The records whose columns equal the given values."""

    def values(self, kind: type, columns: Sequence[str], **equal: Any) -> list[tuple[Any, ...]]:
        """Only these columns of the records that `find` would give."""

    def commit(self, work: Callable[[Change], Result]) -> Result:
        """Do `work` in one transaction and give what it gives, once it is durable."""


def one(change: Change, id: str) -> Job:
    """The job with this id, locked. Raises `UnknownName`."""
    found = change.find(Job, id=id)
    if not found:
        raise unknown(id)
    return found[0]


def unknown(id: str) -> UnknownName:
    """There is no such job."""
    known = {"en": "the jobs of kit.tuning.jobs()", "ja": "kit.tuning.jobs() にあるジョブ"}
    return UnknownName(kind={"en": "job", "ja": "ジョブ"}, name=id, known=known)


def checked_id(id: str) -> str:
    """`id` if a job may have it. Raises `InvalidValue`."""
    if not _ID.fullmatch(id):
        allowed = {"en": "1 to 36 letters, digits, - and _", "ja": "半角の英数字、-、_（36字以内）"}
        raise InvalidValue(name="id", value=id[:80], allowed=allowed)
    return id
