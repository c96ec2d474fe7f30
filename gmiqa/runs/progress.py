"""Progress in two places: a bar in JupyterLab, plain rate-limited lines with the time left in batch and in scripts."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
BATCH_SECONDS = 5.0  # between two lines
BAR_SECONDS = 0.2  # between two redraws
MARK = "… "  # every batch line starts with it, so that the chain can pass these lines on


def in_jupyter() -> bool:
    """True in a kernel that a person uses; papermill and nbclient execute cells without stdin."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))


def duration(seconds: float) -> str:
    """``75`` -> ``"1 min 15 s"``."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    if minutes >= 4 * 24 * 60:
        return f"{round(minutes / 24 / 60)} days"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def counted(n: int, word: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{n} {word}" + ("" if n == 1 else "s")


LEFT = re.compile(MARK + r".*?(\d+)/(\d+) \(\d+ %\), .* so far, (?:(\d+) h )?(?:(\d+) min ?)?(?:(\d+) s )?left")


def time_left(line: str) -> float | None:
    """The seconds that a line of ``Progress`` in batch says are left, once a tenth is done; None for any other line."""
    found = LEFT.match(line)
    if not found or 10 * int(found[1]) < int(found[2]):
        return None
    hours, minutes, seconds = (int(number or 0) for number in found.groups()[2:])
    return 3600.0 * hours + 60 * minutes + seconds


class Progress:
    """``bar = Progress("meta steps", 300)``, then ``bar.update(1, loss=0.12)``; it closes itself at the total."""

    def __init__(self, label: str = "", total: int | None = None, *, jupyter: bool | None = None):
        self.label, self.total, self.count = label, total, 0
        self.jupyter = in_jupyter() if jupyter is None else jupyter
        self._values: dict[str, Any] = {}
        self._start = self._last = time.monotonic()
        self._handle: Any = None
        self._closed = False

    def update(self, n: int = 1, **values: Any) -> None:
        """Advance by ``n``; ``values`` are shown beside the count (the latest of each name)."""
        self.count += n
        self._values.update(values)
        now = time.monotonic()
        finished = self.total is not None and self.count >= self.total
        if finished:
            self.close()
        elif now - self._last >= (BAR_SECONDS if self.jupyter else BATCH_SECONDS):
            self._last = now
            self._show()

    def close(self) -> None:
        """The last line; a loop shorter than one batch interval leaves only this one."""
        if not self._closed:
            self._closed = True
            self._show()

    def text(self) -> str:
        """``meta steps 120/300 40 %, 0:12 so far, 18 s left, loss 0.12``."""
        elapsed = time.monotonic() - self._start
        parts = [f"{self.label} {self.count}".strip()]
        if self.total:
            parts[0] += f"/{self.total} ({100 * self.count // self.total} %)"
        parts.append(f"{duration(elapsed)} so far" if not self._closed else f"took {duration(elapsed)}")
        if self.total and 0 < self.count < self.total and not self._closed:
            parts.append(f"{duration(elapsed / self.count * (self.total - self.count))} left")
        parts += [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                  for name, value in self._values.items()]
        return ", ".join(parts)

    def _show(self) -> None:
        if not self.jupyter:
            print(MARK + self.text(), flush=True)
            return
        from html import escape

        from IPython.display import HTML, display
        share = min(self.count / self.total, 1.0) if self.total else 0.0
        bar = HTML(f'<div style="font:13px system-ui,sans-serif"><progress value="{share:.4f}" max="1" '
                   f'aria-label="{escape(self.label)}" style="width:14em;vertical-align:middle"></progress> '
                   f'{escape(self.text())}</div>')
        if self._handle is None:
            self._handle = display(bar, display_id=True)
        else:
            self._handle.update(bar)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def progress(iterable: Iterable[T], total: int | None = None, label: str = "") -> Iterator[T]:
    """Iterate with a ``Progress``; ``total`` is taken from ``len`` where there is one."""
    if total is None:
        total = len(iterable) if hasattr(iterable, "__len__") else None  # type: ignore[arg-type]
    bar = Progress(label, total)
    try:
        for item in iterable:
            yield item
            bar.update()
    finally:
        sys.stdout.flush()
        bar.close()
