"""Threads that share a batch, one PyTorch thread each: small operations scale badly inside, but well side by side."""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from gmiqa.threads import cores, single_threaded_pool

_executor = functools.cache(single_threaded_pool)


# A forked worker inherits an executor without its threads and would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executor.cache_clear)


def threads(device: torch.device) -> int:
    """How many share a batch: PyTorch's own number on a CPU; all there are beside a card."""
    return torch.get_num_threads() if device.type == "cpu" else cores()


def begin(function: Callable[..., Any], tasks: Iterable[tuple], count: int,
          device: torch.device | None = None) -> list[Future]:
    """function(*task) for each of the tasks, on `count` threads; on the caller's stream of a card."""
    run = function
    if device is not None and device.type == "cuda":
        stream = torch.cuda.current_stream(device)

        def run(*task: Any) -> Any:
            with torch.cuda.stream(stream):
                return function(*task)

    return [_executor(count, "share").submit(run, *task) for task in tasks]


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
    return _executor(count, "background")
