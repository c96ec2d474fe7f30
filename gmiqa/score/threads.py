"""Worker threads of one core each."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import torch


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def single_threaded_pool(workers: int) -> ThreadPoolExecutor:
    """Threads that compute on one core each: faster than one picture on many cores, and independent of their number."""
    before = torch.get_num_threads()
    barrier = threading.Barrier(workers)
    pool = ThreadPoolExecutor(workers, "scorer", initializer=lambda: torch.set_num_threads(1))
    list(pool.map(lambda _: barrier.wait(), range(workers)))
    torch.set_num_threads(before)  # a worker's call also changes the default of threads that start later
    return pool
