"""Threads that share a batch, one PyTorch thread each: small operations scale badly inside, but well side by side."""

import functools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch


@functools.cache
def _executor(name: str, count: int) -> ThreadPoolExecutor:
    """`count` running threads that use one PyTorch thread each; afterwards the caller's setting is restored."""
    before = torch.get_num_threads()
    barrier = threading.Barrier(count)
    executor = ThreadPoolExecutor(count, thread_name_prefix=name)

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


def threads(device: torch.device) -> int:
    """How many share a batch: PyTorch's own number on a CPU; all there are beside a card."""
    return torch.get_num_threads() if device.type == "cpu" else _cores()


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def begin(function: Callable[..., Any], tasks: Iterable[tuple], count: int,
          device: torch.device | None = None) -> list[Future]:
    """function(*task) for each of the tasks, on `count` threads; on the caller's stream of a card."""
    run = function
    if device is not None and device.type == "cuda":
        stream = torch.cuda.current_stream(device)

        def run(*task: Any) -> Any:
            with torch.cuda.stream(stream):
                return function(*task)

    return [_executor("share", count).submit(run, *task) for task in tasks]


def share(function: Callable[..., Any], tasks: Iterable[tuple], count: int,
          device: torch.device | None = None) -> list:
    """[function(*task) for task in tasks], on `count` threads; in the caller's own thread for one."""
    if count <= 1:
        return [function(*task) for task in tasks]
    return [future.result() for future in begin(function, tasks, count, device)]


def background_threads() -> int:
    """How many prepare what others will ask for later, each a few pictures that all threads share: half as many as
    PyTorch uses, at least one."""
    return max(1, torch.get_num_threads() // 2)


def background_executor(count: int) -> ThreadPoolExecutor:
    """Threads for work that others will ask for later."""
    return _executor("background", count)
