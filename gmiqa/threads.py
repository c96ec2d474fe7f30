"""Worker threads of one PyTorch thread each: small operations scale badly inside, but well side by side."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def single_threaded_pool(workers: int, name: str) -> ThreadPoolExecutor:
    """Running threads that compute on one core each: the result does not depend on how many cores there are."""
    import torch  # here, because `cores` is asked where torch need not be

    before = torch.get_num_threads()
    barrier = threading.Barrier(workers)
    pool = ThreadPoolExecutor(workers, name, initializer=lambda: torch.set_num_threads(1))
    list(pool.map(lambda _: barrier.wait(), range(workers)))
    torch.set_num_threads(before)  # a worker's call also changes the default of threads that start later
    return pool
