"""What a leg of the index says when it fails: one exception, whatever library is below it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class LegFault(Exception):
    """A leg of the index failed or is not what it should be. The index answers by making it anew."""

    def __init__(self, leg: str, reason: str) -> None:
        super().__init__(f"{leg}: {reason}")
        self.leg = leg


@contextmanager
def guard_leg(leg: str) -> Iterator[None]:
    """Any failure of the libraries inside becomes a `LegFault`. A panic of their Rust parts is a BaseException in Python, so those too."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, LegFault):
        raise
    except BaseException as fault:
        raise LegFault(leg, f"{type(fault).__name__}: {fault}") from fault
