"""One stage in one child process: ``python -m gmiqa.runs.execute``, started by the chain only.

The request comes as one line of JSON on stdin. stdin then stays open: when it closes, the chain is dead, and this
process ends its kernel and itself. What happens is told in lines of JSON on stdout.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gmiqa.runs import provenance
from gmiqa.runs.keys import key, narrowed
from gmiqa.runs.lock import kill_tree
from gmiqa.runs.stage import CHAIN, CLOSED

MARK = "\x1egmiqa "  # begins our lines; a kernel's stray print to the same pipe has no such mark
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def main() -> int:
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_the_chain, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: _end(143))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the chain
    try:
        _tell(event="done", **_execute(request))
        return 0
    except Exception as error:
        _tell(event="failed", **_explain(error, Path(request["notebook"])))
        return 1


def _execute(request: dict[str, Any]) -> dict[str, Any]:
    name, folder = request["name"], Path(request["folder"])
    digest = key(request["parts"])
    folder.mkdir(parents=True, exist_ok=True)
    continued = provenance.begin(folder, digest, fresh=request["fresh"])
    if continued:
        _tell(event="continued")
    (folder / CLOSED).unlink(missing_ok=True)
    unfinished, finished = folder / f"{name}.unfinished.ipynb", folder / f"{name}.ipynb"
    (folder / f"{name}.failed.ipynb").unlink(missing_ok=True)
    os.environ |= {CHAIN: json.dumps({"key": digest, "sources": request["sources"]}),
                   "PYTHONHASHSEED": "0", "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1",
                   "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    memory = _Memory()
    clock, started = time.monotonic(), provenance.now()
    _papermill(request["notebook"], unfinished, request["parameters"], request["cwd"])
    content = provenance.read_json(folder / CLOSED)
    if content is None:
        raise RuntimeError("the notebook ended without stage.close() in its last cell")
    os.replace(unfinished, finished)
    parts = narrowed(request["parts"], content.pop("modules", None))
    content |= {"key": key(parts), "parts": parts, "started": started, "finished": provenance.now(),
                "seconds": round(time.monotonic() - clock, 2), "continued": continued, "notebook": finished.name,
                "peak_memory": max(memory.peak, content.get("peak_memory", 0))}
    content["products"] = content.get("products", []) + provenance.products(folder, [finished])
    provenance.write_json(folder / provenance.RECORD, content)
    (folder / CLOSED).unlink()
    return {name: content.get(name, 0) for name in ("seconds", "cpu_seconds", "peak_memory")}


def _papermill(notebook: str, output: Path, parameters: dict[str, Any], cwd: str) -> None:
    # jsonschema would compile a grammar of web addresses, a second of each stage, for a check that notebooks lack.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import papermill
    from papermill.log import logger

    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [_Relay(Path(notebook))]
    papermill.execute_notebook(notebook, str(output), parameters, kernel_name="python3", progress_bar=False,
                               log_output=True, start_timeout=300, cwd=cwd)


class _Relay(logging.Handler):
    """papermill's log -> events: which cell is at work, and what it prints."""

    cell = 0

    def __init__(self, notebook: Path):
        super().__init__()
        self.notebook = notebook

    def emit(self, entry: logging.LogRecord) -> None:
        text = entry.getMessage()
        if found := re.match(r"Executing Cell (\d+)", text):
            _Relay.cell = int(found[1])
            _tell(event="cell", cell=_where(self.notebook, _Relay.cell))
        elif not text.startswith(("Ending Cell", "Input Notebook", "Output Notebook", "Executing notebook")):
            for line in text.splitlines():
                _tell(event="line", text=line)


class _Memory:
    """The largest resident set of this process and all its descendants together, looked at twice a second."""

    def __init__(self) -> None:
        import psutil
        self.peak = 0
        self._me = psutil.Process()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        import psutil
        while True:
            total = 0
            for process in (self._me, *self._me.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, total)
            time.sleep(0.5)


def _explain(error: Exception, notebook: Path) -> dict[str, Any]:
    """The cell, the error and where it arose, from whatever papermill raised."""
    kind, text, trace = type(error).__name__, str(error), []
    if kind == "PapermillExecutionError":
        kind, text = error.ename, error.evalue  # type: ignore[attr-defined]
        trace = ANSI.sub("", "\n".join(error.traceback)).splitlines()  # type: ignore[attr-defined]
    elif kind == "DeadKernelError":
        text = "the kernel died: killed, out of memory, or a crash in compiled code"
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC or f"[Errno {errno.ENOSPC}]" in text
    return {"cell": _where(notebook, _Relay.cell), "error": kind, "text": ANSI.sub("", text), "trace": trace,
            "disk_full": full}


def _where(notebook: Path, cell: int) -> str:
    """``4 (losses = train(model))``: the cell's number in the notebook as it is stored, and its first line of code."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [k for k, c in enumerate(cells, 1) if "parameters" in c.get("metadata", {}).get("tags", [])]
    number = cell - 1 if tagged and cell > tagged[0] else cell  # papermill puts its own cell behind the parameters
    if not 0 < number <= len(cells):
        return "?"
    lines = [line for line in "".join(cells[number - 1]["source"]).splitlines() if line.strip()]
    return f"{number} ({lines[0][:60]})" if lines else str(number)


def _tell(**event: Any) -> None:
    try:
        sys.stdout.write(MARK + json.dumps(event) + "\n")
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        _end(3)


def _die_with_the_chain() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock would be held when the interpreter shuts down
        pass
    _end(3)


def _end(status: int) -> None:
    import psutil
    kill_tree(psutil.Process(), itself=False)
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
