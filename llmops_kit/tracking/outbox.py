"""What tracking needs from outside: the store's outbox, and to be the only process that empties it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from llmops_kit.errors import TrackingError
from llmops_kit.types import OutboxItem

if TYPE_CHECKING:
    from filelock import BaseFileLock

Record = TypeVar("Record")


class Outbox(Protocol):
    """What tracking needs of the store, which is an adapter like itself."""

    def append(self, record: Any) -> bool:
        """Keep `record` unless its id is there already."""

    def find(self, kind: type[Record], **equal: Any) -> list[Record]:
        """Records whose columns equal the given values (a list means any of them)."""

    def count(self, kind: type, **equal: Any) -> int:
        """How many records `find` would give."""

    def values(self, kind: type, columns: Sequence[str], **equal: Any) -> list[tuple[Any, ...]]:
        """Only these columns of the records that `find` would give."""

    def unsent(self, limit: int = ...) -> list[OutboxItem]:
        """What was not sent yet, oldest first."""

    def mark_sent(self, items: Sequence[OutboxItem], *, sent: bool = True) -> None:
        """Remember that `items` were sent, or have to go again."""


class OneSender:
    """A lock on the folder W&B writes to, for one process at a time. Taking it again changes nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: BaseFileLock | None = None

    def take(self) -> None:
        """Become the one process that sends for this workspace. Raises `TrackingError` where another is."""
        from filelock import FileLock, Timeout

        with as_tracking_error():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._lock or FileLock(self._folder / "relay.lock", timeout=0, thread_local=False)
            try:
                if not self._lock.is_locked:
                    self._lock.acquire()
            except Timeout:
                raise TrackingError(
                    reason="another process sends for this workspace",
                    en="Another process already writes the W&B tables of this workspace; it sends these rows too.",
                    ja="別のプロセスがこのワークスペースのW&Bの表を書き込んでいます。この行もそのプロセスが送ります。",
                ) from None

    def give_back(self) -> None:
        """Let another process send."""
        if self._lock is not None:
            self._lock.release()


@contextmanager
def as_tracking_error() -> Iterator[None]:
    """Turn what the disk refuses into `TrackingError`."""
    try:
        yield
    except OSError as fault:
        raise TrackingError(reason=fault.strerror or str(fault)) from fault
