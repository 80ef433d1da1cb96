"""Long work on documents in the background: it goes on when the page is closed, and is found again when the person comes back."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import Cancelled, InputError, KitError

if TYPE_CHECKING:
    from llmops_kit.documents.ingestion import Step

MOST_AT_ONCE = 4
"""Pieces of work one person may have under way."""
_REMEMBERED = 1000
"""People whose last work is remembered."""
_log = logging.getLogger(__name__)

Steps = Callable[["Job"], Iterator["Step"]]
"""Work in steps. It looks at the cancel event of its job, and may note there what was left."""


@dataclass
class Job:
    """One piece of work: how far it is (`step`), what the finished documents became (`states`), and what went wrong.

    `left` are files that were not taken, with the reason in both languages. `total` is the number of files given.
    """

    total: int
    cancel: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    step: Step | None = None
    states: Counter[str] = field(default_factory=Counter)
    left: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    error: Exception | None = None

    @property
    def done(self) -> int:
        """Files done."""
        return self.step.done if self.step else 0

    def run(self, steps: Steps) -> None:
        """Go through the steps to their end, or until they fail."""
        try:
            for step in steps(self):
                self.step, self.total = step, step.total
                if step.document is not None:
                    self.states = self.states + Counter([step.document.state])  # a new one: it is read by other threads
        except Cancelled:
            self.cancel.set()
        except KitError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a bug: loud in the log, one calm sentence on the page
            _log.exception("work on documents failed")
            self.error = error
        finally:
            self.ended.set()


@dataclass(frozen=True)
class Standing:
    """Everything a person has under way, or had under way last, in one."""

    running: int
    done: int
    total: int
    pages: int
    seconds_left: float | None
    cancelled: bool
    states: Mapping[str, int]
    left: Sequence[tuple[str, Mapping[str, str]]]
    errors: Sequence[Exception]


class Works:
    """The work of everybody who has the app open, each person's under their own id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, list[Job]] = {}
        self._resumed = False

    def start(self, user: str, steps: Steps, *, total: int, wait_s: float = 0.0) -> Job:
        """Begin `steps` in the background for `user`, and give what is short the time to end.

        Raises: InputError, where the person has too much under way; the work's own KitError, where it ends with one in that time.
        """
        job = Job(total)
        with self._lock:
            running = [each for each in self._jobs.get(user, []) if not each.ended.is_set()]
            if len(running) >= MOST_AT_ONCE:
                raise InputError(
                    en=f"{len(running)} pieces of work are under way. Wait until one is done, or cancel them.",
                    ja=f"{len(running)}件の処理が進行中です。終わるのを待つか、キャンセルしてください。",
                )
            kept = self._jobs.pop(user, []) if running else []
            self._jobs[user] = [*kept, job]
            self._forget()
        threading.Thread(target=job.run, args=(steps,), daemon=True, name="documents work").start()
        if job.ended.wait(wait_s) and isinstance(job.error, KitError):
            with self._lock:  # it is told here, and need not be told again
                self._jobs[user] = [each for each in self._jobs.get(user, []) if each is not job]
            raise job.error
        return job

    def cancel(self, user: str) -> None:
        """Stop everything the person has under way; what is done stays."""
        for job in self._of(user):
            job.cancel.set()

    def standing(self, user: str) -> Standing:
        """How far the person's work is."""
        jobs = self._of(user)
        running = [each for each in jobs if not each.ended.is_set()]
        left_s = [each.step.seconds_left for each in running if each.step and each.step.seconds_left is not None]
        states: Counter[str] = Counter()
        for each in jobs:
            states.update(each.states)
        return Standing(
            running=len(running),
            done=sum(each.done for each in jobs),
            total=sum(each.total for each in jobs),
            pages=sum(each.step.pages for each in jobs if each.step),
            seconds_left=max(left_s) if left_s and len(left_s) == len(running) else None,
            cancelled=any(each.cancel.is_set() for each in jobs),
            states=states,
            left=[note for each in jobs for note in list(each.left)],
            errors=[each.error for each in jobs if each.error is not None],
        )

    def resume(self, steps: Callable[[], Iterator[Any]]) -> None:
        """Go on, once, with what an interrupted process left waiting; whoever's it is."""
        with self._lock:
            if self._resumed:
                return
            self._resumed = True

        def go() -> None:
            with suppress(KitError):  # another process has the documents of this workspace: it is said when somebody adds some
                for _ in steps():
                    pass

        threading.Thread(target=go, daemon=True, name="documents resumed").start()

    def _of(self, user: str) -> list[Job]:
        with self._lock:
            return list(self._jobs.get(user, []))

    def _forget(self) -> None:
        """Forget the work of those who were longest away, unless it goes on."""
        for user in list(self._jobs)[: max(0, len(self._jobs) - _REMEMBERED)]:
            if all(each.ended.is_set() for each in self._jobs[user]):
                del self._jobs[user]
