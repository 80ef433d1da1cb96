"""How far the weights of a model are read, told by the progress bar that transformers draws, or would draw, meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def watch_tensors(report: Callable[[float], None] | None) -> Iterator[None]:
    """Within: `report` gets the share of tensors that transformers has read, from 0 to 1.

    The hook is transformers' own and holds for the whole process; bars made by other threads meanwhile stay as they are.
    """
    if report is None:
        yield
        return
    import threading

    from transformers.utils import logging

    here = threading.get_ident()

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bar = factory(*args, **kwargs)
        return _Told(bar, len(args[0]), report) if threading.get_ident() == here and args and hasattr(args[0], "__len__") else bar

    earlier = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(earlier)


class _Told:
    """A progress bar that also reports how far it is."""

    def __init__(self, bar: Any, total: int, report: Callable[[float], None]) -> None:
        self._bar = bar
        self._total = total
        self._report = report

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self._bar):
            self._report(done / self._total)
            yield item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)
