"""Measurements that run on while the person looks elsewhere: one per person, cancelled and found again by them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmops_kit.errors import Cancelled, InputError, KitError

_REMEMBERED = 500
"""People whose last measurement is remembered."""
_log = logging.getLogger(__name__)


@dataclass
class Measurement:
    """One measurement: what it is (`kind`), how far it is, and what came of it. `told` is what its result is shown with."""

    kind: str
    told: dict[str, Any]
    cancel: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    done: int = 0
    total: int = 0
    started_s: float = field(default_factory=time.monotonic)
    result: Any = None
    error: Exception | None = None

    def report(self, done: int, total: int, seconds_left: float | None) -> None:
        """How far it is; as `llmops_kit.progress.Progress`."""
        self.done, self.total = done, total

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None before anything is done."""
        return (time.monotonic() - self.started_s) / self.done * (self.total - self.done) if self.done else None

    def run(self, work: Callable[[Measurement], Any]) -> None:
        """Do the work and keep its result, or its fault."""
        try:
            self.result = work(self)
        except Cancelled:
            self.cancel.set()
        except KitError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a bug: loud in the log, one calm sentence on the page
            _log.exception("a measurement failed")
            self.error = error
        finally:
            self.ended.set()


class Measurements:
    """The last measurement of everybody who has the app open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, Measurement] = {}

    def start(self, user: str, kind: str, work: Callable[[Measurement], Any], **told: Any) -> Measurement:
        """Begin `work` in the background. Raises: InputError, while another one of theirs runs."""
        made = Measurement(kind, told)
        with self._lock:
            running = self._last.get(user)
            if running is not None and not running.ended.is_set():
                raise InputError(
                    en="A measurement is under way. Wait for it, or cancel it.", ja="測定が進行中です。終わるのを待つか、キャンセルしてください。"
                )
            self._last.pop(user, None)
            self._last[user] = made
            for other in list(self._last)[: max(0, len(self._last) - _REMEMBERED)]:
                if self._last[other].ended.is_set():
                    del self._last[other]
        threading.Thread(target=made.run, args=(work,), daemon=True, name=f"documents {kind}").start()
        return made

    def of(self, user: str) -> Measurement | None:
        """The person's last measurement."""
        with self._lock:
            return self._last.get(user)
