"""The most memory a training has had."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_memory_gb(device: str) -> float:
    """Gigabytes (10⁹ bytes): of the GPU where this process trains on one, with what its allocator holds; else resident in this process."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_reserved() / 1e9
    status = Path("/proc/self/status")
    if status.is_file():  # the kernel's ru_maxrss also has the peak of the parent this was forked from
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e9
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return float(getattr(psutil.Process().memory_info(), "peak_wset", 0)) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
