"""Many calls at once: cells worked off by several threads, counted, stopped, and their failures kept as Runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from typing import NamedTuple, TypeVar

from llmops_kit.errors import KitError
from llmops_kit.playground.results import Slot
from llmops_kit.types import Run

CellT = TypeVar("CellT", bound=Hashable)
LOOK_S = 0.1  # how often a stop is looked for
GRACE_S = 3.0  # how long stopped calls are waited for; one that hangs on a silent server ends by its own timeout


class Count(NamedTuple):
    """How far it is: cells with an answer, cells that failed just now, all cells, seconds left (None: not known yet)."""

    done: int
    failed: int
    total: int
    seconds_left: float | None = None


def work_off(
    slots: Sequence[Slot[CellT]], answer: Callable[[Slot[CellT], threading.Event], Run | None], *, workers: int, cancel: threading.Event
) -> Iterator[Count]:
    """Have `answer` called for the open cells, `workers` at a time; a count at the start and after each one.

    `answer` is given the cell and the event that tells it to stop, which is set by `cancel` and by closing the iterator.
    """
    todo = [slot for slot in slots if not slot.done]
    done, failed, started = len(slots) - len(todo), 0, time.monotonic()
    yield Count(done, failed, len(slots))
    stop = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cells")
    pending: set[Future[Run | None]] = set()
    try:
        pending = {pool.submit(answer, slot, stop) for slot in todo}
        while pending and not cancel.is_set():
            finished, pending = wait(pending, timeout=LOOK_S, return_when=FIRST_COMPLETED)
            for run in [call.result() for call in finished]:
                done, failed = (done + 1, failed) if run is not None and run.error is None else (done, failed + 1)
                here = done + failed - (len(slots) - len(todo))
                yield Count(done, failed, len(slots), (time.monotonic() - started) / here * (len(todo) - here))
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        wait([call for call in pending if not call.cancelled()], timeout=GRACE_S)


def follow(growing: Iterator[Run], stop: threading.Event, grow: Callable[[Run], object] | None = None) -> Run | None:
    """The last Run of `growing`, each told to `grow`; a call that failed gives its Run with the error, a stopped one None.

    Raises: what is not the call's fault but that of what it stands on, such as a full disk.
    """
    last = None
    try:
        with closing(growing):  # type: ignore[type-var]
            for run in growing:
                if stop.is_set():
                    return None
                last = run
                if grow is not None:
                    grow(run)
    except KitError as error:
        if error.run is None:
            raise
        return error.run
    return last
