"""The one progress bar of the kit: in a notebook, in a terminal, or whatever the caller draws instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tqdm import tqdm

Progress = Callable[[int, int, float | None], None]
"""Called with how much is done, how much there is in all, and the seconds left (None: not known yet)."""


@contextmanager
def show_progress(progress: Progress | Literal[False] | None, unit: str) -> Iterator[Progress]:
    """What to report progress to: `progress` itself; a bar counting `unit`s where it is None; nothing where it is False.

    The bar appears with the first report, in a notebook or where stderr is a terminal, and nowhere else. Bytes (`unit`
    `B`) are shown as MB and GB.
    """
    if progress is False:
        yield lambda done, total, seconds_left: None
    elif progress is not None:
        yield progress
    else:
        bar = _Bar(unit)
        try:
            yield bar.show
        finally:
            bar.close()


class _Bar:
    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: tqdm[Any] | None = None

    def show(self, done: int, total: int, seconds_left: float | None) -> None:
        if self._bar is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tqdm's advice to install notebook widgets
                from tqdm.auto import tqdm
            # What an earlier try did (`initial`) says nothing about the speed of this one. `disable=None`: only where somebody looks.
            self._bar = tqdm(total=total, initial=done, unit=self._unit, unit_scale=self._unit == "B", disable=None)
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
