"""Group commit: the works of threads that wait at the same time share one transaction, and so one sync to disk.

There is no thread of its own: the caller at the head of the queue writes for all who wait, wakes them, and hands over to the next.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from llmops_kit.store.change import Change

Result = TypeVar("Result")
_MOST = 256
"""Works in one transaction: a bound on how long the first of them waits."""


class _Waiting:
    """A caller's work. `turn` is released when the work is `done`, or when its caller has to write the next group."""

    def __init__(self, work: Callable[[Change], Any]) -> None:
        self.work = work
        self.turn = threading.Lock()
        self.turn.acquire()
        self.alone = False
        self.done = False
        self.gone = False
        self.result: Any = None
        self.fault: BaseException | None = None

    def attempt(self, connection: sa.Connection) -> None:
        """Do the work, and keep what it gives or raises."""
        self.result, self.fault = None, None
        try:
            self.result = self.work(Change(connection))
        except (Exception, GeneratorExit, SystemExit) as fault:  # noqa: BLE001 - raised again to its caller; KeyboardInterrupt is for this thread
            self.fault = fault


class GroupCommit:
    """Writes works in the order they came, many to a transaction. `begin` opens a transaction that no other writer is in.

    A work that raises is undone alone, and raises to its own caller. Where the transaction cannot begin or commit, nothing of it
    is written and every caller in it gets the error.
    """

    def __init__(self, begin: Callable[[], AbstractContextManager[sa.Connection]]) -> None:
        self._begin = begin
        self._guard = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._leader: _Waiting | None = None  # the head of the queue until it has taken its group; None only where nobody waits

    def commit(self, work: Callable[[Change], Result]) -> Result:
        """Do `work` and give what it gives, once it is durable. It may run in the thread of another caller."""
        mine = _Waiting(work)
        try:
            with self._guard:
                self._waiting.append(mine)
                if self._leader is None:
                    self._lead_next()
            while not mine.done:
                mine.turn.acquire()
                if self._leader is mine:
                    self._write_group()
                    with self._guard:
                        self._lead_next()
        except BaseException:
            self._leave(mine)
            raise
        if mine.fault is None:
            return mine.result  # type: ignore[no-any-return]
        try:
            raise mine.fault
        finally:
            mine.fault = None  # an error held by a frame of its own traceback is freed late

    def _lead_next(self) -> None:
        self._leader = self._waiting[0] if self._waiting else None
        if self._leader is not None:
            self._leader.turn.release()

    def _leave(self, mine: _Waiting) -> None:
        """Out of the queue, because the caller was interrupted; if it led, somebody else does, or the others would wait for ever."""
        with self._guard:
            mine.gone = True
            if mine in self._waiting:
                self._waiting.remove(mine)
            if self._leader is mine:
                self._lead_next()

    def _take(self) -> list[_Waiting]:
        with self._guard:
            group = [self._waiting.popleft()]
            while self._waiting and len(group) < _MOST and not (group[0].alone or self._waiting[0].alone):
                group.append(self._waiting.popleft())
            return group

    def _put_back(self, group: list[_Waiting]) -> None:
        with self._guard:
            self._waiting.extendleft([each for each in reversed(group) if not (each.done or each.gone or each in self._waiting)])

    def _write_group(self) -> None:
        group: list[_Waiting] = []
        try:
            refused = self._write(group)
            if len(group) > 1 and refused:
                for each in refused:
                    each.alone = True
                self._put_back(refused)
            for each in group:
                if len(group) == 1 or not each.alone:
                    each.done = True
                    each.turn.release()
        except BaseException:  # interrupted: for the others of the group it is as if they had never been taken
            self._put_back(group)
            raise

    def _write(self, group: list[_Waiting]) -> list[_Waiting]:
        """Fill `group` and write it. Gives those that the database itself refused: another of the group may have locked or filled what they needed."""
        worked = False
        try:
            with self._begin() as connection:
                group += self._take()  # only now: whoever came while this waited for the last commit is in it
                _attempt_all(connection, group)
                worked = True
        except Exception as fault:  # noqa: BLE001 - raised again to the callers of the group
            undone = list(group) if not worked else []
            group += [] if group else self._take()
            for each in group:
                each.fault = fault
            return undone
        return [each for each in group if isinstance(each.fault, OperationalError)]


def _attempt_all(connection: sa.Connection, group: list[_Waiting]) -> None:
    """Each work in a savepoint of its own, or without one if it is the only one. Raises where the whole transaction has to be undone."""
    if len(group) == 1:
        group[0].attempt(connection)
        if group[0].fault is not None:
            raise group[0].fault
        return
    cursor = connection.connection.cursor()  # the driver's own: this runs twice for each rating, and SQLAlchemy's way costs ten times as much
    for each in group:
        cursor.execute("SAVEPOINT work")
        each.attempt(connection)
        if each.fault is not None:
            cursor.execute("ROLLBACK TO SAVEPOINT work")
        cursor.execute("RELEASE SAVEPOINT work")
    cursor.close()
