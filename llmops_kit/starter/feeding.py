"""Rows drawn ahead by other processes, for accelerators that are faster than one Python process can draw."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import Empty
from typing import Any, TypeVar

Item = TypeVar("Item")

AHEAD = 4  # items a process may be ahead of the reader
PATIENCE_S = 2.0  # between looks at whether a process that gives nothing is still there


def read_ahead(sources: Sequence[Callable[[], Iterable[Item]]]) -> Iterator[Item]:
    """One item of each source in turn, for ever. Every source runs in a process of its own, ended with the iterator.

    The processes are forked, so that sources may hold what cannot be pickled; they must not touch an accelerator.

    Raises:
        RuntimeError: a source ended or its process died.
    """
    context = multiprocessing.get_context("fork")
    queues: list[Any] = [context.Queue(AHEAD) for _ in sources]
    processes = [context.Process(target=_fill, args=pair, daemon=True) for pair in zip(sources, queues, strict=True)]
    for process in processes:
        process.start()
    try:
        while True:
            for process, queue in zip(processes, queues, strict=True):
                yield _take(process, queue)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _fill(source: Callable[[], Iterable[Item]], queue: Any) -> None:
    for item in source():
        queue.put(item)


def _take(process: Any, queue: Any) -> Any:
    while True:
        try:
            return queue.get(timeout=PATIENCE_S)
        except Empty:
            if not process.is_alive():
                raise RuntimeError(f"a process that draws rows ended with exit code {process.exitcode}") from None
