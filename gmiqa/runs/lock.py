"""One chain per output folder. The operating system lets go of the lock when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gmiqa.runs.provenance import now
from gmiqa_core.errors import UserError

NAME = ".lock"


class Lock:
    """The held lock; ``children`` writes down the processes that a successor must not meet alive."""

    def __init__(self, file: Any):
        self._file = file

    def children(self, pids: list[int]) -> None:
        import psutil
        alive = []
        for pid in pids:
            try:
                alive.append([pid, psutil.Process(pid).create_time()])
            except psutil.NoSuchProcess:
                continue
        content = {"pid": os.getpid(), "host": socket.gethostname(), "since": now(), "children": alive}
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(content))
        self._file.flush()


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Hold ``folder`` for this process, or raise a UserError that says who holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / NAME, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --name") from None
    with file:
        file.seek(0)
        try:
            before = json.loads(file.read() or "{}")
        except ValueError:
            before = {}
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{folder}: another chain is at work there (process {before.get('pid', '?')} on "
                f"{before.get('host', '?')}, since {before.get('since', '?')}); wait for it, stop it, or give this "
                "run its own folder with --name") from None
        if before.get("host") == socket.gethostname():
            end(before.get("children", []))
        lock = Lock(file)
        lock.children([])
        yield lock
        file.truncate(0)


def end(children: list[list[float]]) -> None:
    """Kill what a dead chain left behind: its children end by themselves, but perhaps have not yet."""
    import psutil
    for pid, born in children:
        try:
            process = psutil.Process(int(pid))
            if abs(process.create_time() - born) < 1:
                kill_tree(process)
        except psutil.NoSuchProcess:
            continue


def kill_tree(process: Any, itself: bool = True) -> None:
    """SIGKILL to all descendants of a psutil process, and to it unless told otherwise; waits until they are gone."""
    import psutil
    try:
        group = process.children(recursive=True) + ([process] if itself else [])
    except psutil.NoSuchProcess:
        return
    for member in group:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(group, timeout=10)
