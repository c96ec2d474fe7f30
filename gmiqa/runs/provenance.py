"""What a result depends on: run.json, the environment, and folders that are cleared only if they are ours."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gmiqa_core import files

RECORD, STARTED, LOG = "run.json", "started.json", "log.txt"
PACKAGES = ("gmiqa", "torch", "torchvision", "torch-geometric", "learn2learn", "numpy", "pandas", "scipy",
            "scikit-learn", "scikit-image", "umap-learn", "matplotlib", "papermill")


def repository_root() -> Path:
    """The folder that holds ``notebooks/``: the working copy behind the installed package, else the one we are in."""
    package = Path(__file__).resolve().parents[2]
    here = Path.cwd().resolve()
    for folder in (package, here, *here.parents):
        if (folder / "notebooks").is_dir():
            return folder
    return here


def write_json(path: Path, content: Any) -> None:
    """All of it or nothing."""
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False, default=str).encode())


def write_atomically(path: Path, content: bytes) -> None:
    """A file and its folder; see gmiqa_core.files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, content)


def read_json(path: Path) -> dict[str, Any] | None:
    """The content, or None where there is no such file or none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record(folder: Path) -> dict[str, Any] | None:
    """The run.json of a finished stage, or None: nothing else says that a stage is done."""
    content = read_json(folder / RECORD)
    return content if content and content.get("status") == "done" else None


def upstream_key(content: dict[str, Any]) -> str:
    """What a stage hands on: its key, or the time when it was made if no chain vouches for it."""
    return content.get("key") or f"by hand {content.get('finished')}"


def begin(folder: Path, key: str, fresh: bool = False, hand: bool = False, unchanged: bool = False) -> bool:
    """Make ``folder`` ready for a run with ``key``; True where an earlier run of the same key is continued.

    What an earlier run left stays only if its key was this one, so that training resumes from its own checkpoints and
    never from another setting's. The chain continues only what a chain left unfinished. By ``hand`` a finished stage
    is continued as well: whoever opens a notebook after a run looks at its training and does not repeat it.
    ``unchanged`` says that this stage is finished and that nothing of what it had loaded has changed since, whatever
    its key. Files are removed only from folders that carry our mark.
    """
    started = read_json(folder / STARTED)
    same = started is not None and (started.get("key") == key or unchanged) and not fresh
    if not hand and same and started is not None:
        same = started.get("by") == "chain" and record(folder) is None
    ours = started is not None or (folder / RECORD).exists()
    # The record goes first: a crash in here must not leave a stage that says done with half of its files.
    (folder / RECORD).unlink(missing_ok=True)
    if ours and not same:
        for entry in folder.iterdir():
            if entry.name not in (STARTED, LOG):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    write_json(folder / STARTED, {"key": key, "by": "hand" if hand else "chain", "time": now()})
    return same


def adopt(other: Path, folder: Path) -> None:
    """Take over the finished stage in ``other``: the same files (hard links where possible), the record last."""
    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    if folder.exists():
        begin(folder, "taken over")
    content = read_json(other / RECORD) or {}
    shutil.copytree(other, folder, copy_function=link, dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns(RECORD, STARTED, LOG))
    write_json(folder / STARTED, {"key": content.get("key"), "by": "chain", "time": now()})
    write_json(folder / RECORD, content | {"taken_from": str(other)})


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def commit(root: Path) -> dict[str, Any]:
    """The commit of the working copy and whether anything tracked differs from it; None outside a repository."""
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def environment() -> dict[str, Any]:
    """Python, machine and the versions that results depend on."""
    return {"python": platform.python_version(), "platform": platform.platform(), "cpus": os.cpu_count(),
            "versions": versions(PACKAGES)}


def versions(names: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each distribution, None where there is none."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def device_name(device: str) -> str:
    """``cuda:0`` -> the card's name; ``cpu`` -> the processor's."""
    if device.startswith("cuda"):
        import torch
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_memory() -> int:
    """Bytes: the largest resident set of this process. The chain also counts its children, by looking."""
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cpu_seconds() -> float:
    """Processor time of this process and its finished children: what a busy machine does not change."""
    import resource
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(sum(one.ru_utime + one.ru_stime for one in used), 2)


def products(folder: Path, paths: list[Path]) -> list[dict[str, Any]]:
    """Each product's path (relative to the stage's folder), size and sha256."""
    return [{"path": os.path.relpath(path, folder), "size": path.stat().st_size, "sha256": sha256(path)}
            for path in paths]
