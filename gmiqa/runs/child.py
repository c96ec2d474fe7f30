"""The chain's end of one running stage: starts execute.py, reads its events, ends it with everything below it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gmiqa.runs.execute import MARK
from gmiqa.runs.lock import kill_tree
from gmiqa.runs.plan import Step
from gmiqa.runs.progress import time_left
from gmiqa.runs.provenance import LOG

SPEAK_SECONDS = 15.0  # between two lines of progress that reach the terminal
LOOK_SECONDS = 1.0  # between two looks at the processes below a stage


class Child:
    """A stage at work. ``result`` is its last word: done, failed, or None where it died without one."""

    def __init__(self, step: Step, title: str, expected: float):
        self.step, self.name, self.title = step, step.name, title
        self.expected, self.threads = expected, step.threads
        self.began = began = time.monotonic()
        self._over = 0.0  # when the bar that it shows will be full, in seconds since it began
        self.where = "?"
        self.result: dict[str, Any] | None = None
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self._spoke = began
        self._below: list[Any] = []
        self._looked = 0.0

    def start(self, request: dict[str, Any], folder: Path) -> None:
        """Start the process on its number of threads."""
        folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        self._log = open(folder / LOG, "wb")  # noqa: SIM115
        # Its own session: a Ctrl-C in the terminal reaches the chain alone, which then ends its children in order.
        self._process = subprocess.Popen([sys.executable, "-m", "gmiqa.runs.execute"], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=self._log, env=environment,
                                         start_new_session=True)
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(request) + "\n").encode())
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        return self._process.returncode

    def alive(self) -> bool:
        return self._process.poll() is None

    def events(self) -> list[dict[str, Any]]:
        """What it told since the last call."""
        self._look_below()
        found = []
        while not self._queue.empty():
            event = self._queue.get()
            if event["event"] == "cell":
                self.where = event["cell"]
            elif event["event"] in ("done", "failed"):
                self.result = self.result or event
            elif event["event"] == "line" and (left := time_left(event["text"])) is not None:
                self._over = self.elapsed + left
            found.append(event)
        return found

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    @property
    def least(self) -> float:
        """Seconds that it takes in all, at least: it has run so long, or it said how long its bar still needs."""
        return max(self.elapsed, self._over)

    def may_speak(self) -> bool:
        """True at most once in SPEAK_SECONDS."""
        now = time.monotonic()
        if now - self._spoke < SPEAK_SECONDS:
            return False
        self._spoke = now
        return True

    def drain(self) -> None:
        """Read what a process that has ended still had to tell; end what it left behind if it was killed itself."""
        if self.status != 0:
            self.kill()
        self._reader.join(timeout=5)
        self.events()
        self._log.close()

    def kill(self) -> None:
        """End it, its kernel and the kernel's workers."""
        self._look_below()
        for process in self._below:
            kill_tree(process)
        self._process.kill()
        self._process.wait()

    def _look_below(self) -> None:
        """Remember its descendants: once it is dead, nobody can say which processes were its own."""
        import psutil
        if time.monotonic() - self._looked > LOOK_SECONDS:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._below = psutil.Process(self.pid).children(recursive=True)
                self._looked = time.monotonic()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode(errors="replace")
            if text.startswith(MARK):
                event = json.loads(text[len(MARK):])
                if event["event"] == "line":
                    self._write((event["text"] + "\n").encode())
                self._queue.put(event)
            else:
                self._write(line)

    def _write(self, line: bytes) -> None:
        # A full disk must not stop us from reading what the child says about it.
        with contextlib.suppress(OSError, ValueError):
            self._log.write(line)
            self._log.flush()
