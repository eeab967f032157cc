"""How many CPUs this process may really use: affinity and the cgroup's quota, whichever is less.

A container with a limit of 2 CPUs on a 64-core node sees 64; one thread per seen core would then spend
the quota on switching (Kubernetes sets the quota, not the affinity).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(cgroup: Path = _CGROUP) -> int:
    """Return the whole number of CPUs to use, at least 1."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_v2(cgroup) or _quota_v1(cgroup)
    return max(1, seen if quota is None else min(seen, math.ceil(quota)))


def _quota_v2(cgroup: Path) -> float | None:
    words = _words(cgroup / "cpu.max")
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0] != "max" else None


def _quota_v1(cgroup: Path) -> float | None:
    quota, period = (_words(cgroup / "cpu" / f"cpu.cfs_{part}_us") for part in ("quota", "period"))
    return int(quota[0]) / int(period[0]) if quota and period and int(quota[0]) > 0 else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
