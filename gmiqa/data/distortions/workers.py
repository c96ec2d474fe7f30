"""Threads that share a batch, one PyTorch thread each: small operations scale badly inside, but well side by side."""

import functools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


@functools.cache
def _executor(count: int) -> ThreadPoolExecutor:
    """`count` running threads that use one PyTorch thread each; afterwards the caller's setting is restored."""
    before = torch.get_num_threads()
    barrier = threading.Barrier(count)
    executor = ThreadPoolExecutor(count, thread_name_prefix="distort")

    def start() -> None:
        torch.set_num_threads(1)
        barrier.wait()

    for started in [executor.submit(start) for _ in range(count)]:
        started.result()
    torch.set_num_threads(before)
    return executor


# A forked worker inherits an executor without its threads and would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executor.cache_clear)


def share(function: Callable[..., Any], tasks: Iterable[tuple], count: int) -> list:
    """[function(*task) for task in tasks], on `count` threads; in the caller's own thread for one."""
    if count <= 1:
        return [function(*task) for task in tasks]
    return [future.result() for future in [_executor(count).submit(function, *task) for task in tasks]]


def background_executor() -> ThreadPoolExecutor:
    """One thread for work that others will ask for later; it takes a single PyTorch thread."""
    return _executor(1)
