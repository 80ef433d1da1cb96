"""What the process of a job gives up, so that the app beside it stays quick and it, not the app, is ended when memory runs out."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

_NICE = 5
_OOM_SCORE = 500
"""Added to the kernel's measure, which goes to 1000: before anything ordinary, after what asks to be first."""


def give_way(memory_gb: float) -> None:
    """Lower this process's priority, make it the kernel's choice when memory runs out, and bound its memory (gigabytes; 0: not).

    The bound is one of address space, on Linux and without a GPU: CUDA reserves far more of it than it uses.
    """
    with contextlib.suppress(OSError, AttributeError):  # Windows has no nice
        os.nice(_NICE)
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), encoding="ascii")
    if memory_gb and not Path("/proc/driver/nvidia/version").exists():
        import resource

        top = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = int(memory_gb * 2**30)
        wanted = wanted if top == resource.RLIM_INFINITY else min(wanted, top)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (wanted, wanted))
