"""Fetch BIQ2021, the one benchmark that is a public git repository. Nothing in the project calls this by itself.

A plain clone of 400 MB starts again from nothing when it breaks. Here the list of files comes first (a shallow clone
without contents) and then the pictures in batches, so that the same command continues where it stopped. Every file is
checked against its git hash.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path

from gmiqa.data.datasets import biq2021
from gmiqa.data.datasets.records import DatasetError

BATCH = 200
NEEDED_BYTES = 1_200_000_000  # the pictures twice, as git objects and as files, and some room to spare
ATTEMPTS = 3


def get(
    name: str, path: str | Path, confirmed: bool = False, url: str = biq2021.REPOSITORY,
    progress: Callable[[int, int], None] | None = None, expected: dict[str, int] | None = None,
) -> str:  # fmt: skip
    """Fetch a public data set into `path`, or continue to do so; returns one line about what is there.

    confirmed  must be True: the command line sets it because a person typed the command
    progress   called with (files there, files in all) after every batch
    expected   number of images per official part; BIQ2021's own by default
    """
    if name != "biq2021":
        raise DatasetError(
            f"{name} cannot be fetched: only biq2021 is a public repository; docs/datasets.md says where the others are"
        )
    root = Path(path).expanduser()
    if not confirmed:
        command = f"gmiqa data get {name} {root}"
        raise DatasetError(f"about 400 MB would be fetched from {url}; do it with `{command}`")
    if shutil.which("git") is None:
        raise DatasetError("git is not installed; it is needed to fetch biq2021")
    version = subprocess.run(["git", "--version"], capture_output=True, text=True).stdout
    if (match := re.search(r"(\d+)\.(\d+)", version)) and (int(match[1]), int(match[2])) < (2, 29):
        raise DatasetError(f"{version.strip()} is too old to fetch in parts; 2.29 or newer is needed")
    _prepare(root, url)
    wanted = _listed(root)
    todo = {file: oid for file, oid in wanted.items() if not _intact(root / file, oid)}
    done = len(wanted) - len(todo)
    if progress:
        progress(done, len(wanted))
    names = sorted(todo)
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        _fetch(root, [todo[file] for file in batch], done, len(wanted))
        _git(root, "checkout", "-q", "HEAD", "--pathspec-from-file=-", "--pathspec-file-nul", input="\0".join(batch))
        damaged = [file for file in batch if not _intact(root / file, todo[file])]
        if damaged:
            raise DatasetError(f"{damaged[0]} is not what the repository holds; is the disk full? run it again")
        done += len(batch)
        if progress:
            progress(done, len(wanted))
    return _verified(root, expected or biq2021.COUNTS)


def _prepare(root: Path, url: str) -> None:
    """A repository at `root` that knows the newest commit of `url`, without any contents."""
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root} is a file, expected a folder to fetch into")
    if root.is_dir() and any(root.iterdir()) and not (root / ".git").is_dir():
        raise DatasetError(f"{root} holds other files; give a new or empty folder")
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"cannot make the folder {root}: {error.strerror}") from error
    if url == biq2021.REPOSITORY and shutil.disk_usage(root).free < NEEDED_BYTES and not (root / "Images").is_dir():
        raise DatasetError(
            f"{root} has {shutil.disk_usage(root).free / 1e9:.1f} GB free, biq2021 needs {NEEDED_BYTES / 1e9:.1f} GB"
        )
    if not (root / ".git").is_dir():
        _git(root, "init", "-q", "-b", "main")
    known = _git(root, "remote", check=False).split()
    if "origin" not in known:
        _git(root, "remote", "add", "origin", url)
    elif (other := _git(root, "remote", "get-url", "origin").strip()).removesuffix(".git") != url.removesuffix(".git"):
        raise DatasetError(f"{root} is a copy of {other}, not of {url}; give another folder")
    _git(root, "config", "remote.origin.promisor", "true")
    _git(root, "config", "remote.origin.partialclonefilter", "blob:none")
    if not _git(root, "rev-parse", "-q", "--verify", "HEAD", check=False).strip():
        arguments = ("fetch", "-q", "--depth", "1", "--filter=blob:none", "origin", "HEAD")
        _tried(lambda: _git(root, *arguments), "the list of files")
        _git(root, "update-ref", "HEAD", "FETCH_HEAD")


def _listed(root: Path) -> dict[str, str]:
    """The files that are wanted -> their git hashes."""
    wanted = {}
    for entry in _git(root, "ls-tree", "-r", "-z", "HEAD").split("\0"):
        if entry:
            description, file = entry.split("\t", 1)
            if file.startswith("Images/") or file in biq2021.FILES.values() or file.lower() in ("readme.md", "license"):
                wanted[file] = description.split()[2]
    return wanted


def _fetch(root: Path, oids: list[str], done: int, total: int) -> None:
    missing = {line[1:] for line in _git(root, "rev-list", "--objects", "--missing=print", "HEAD").splitlines()
               if line.startswith("?")}  # fmt: skip
    asked = sorted(missing.intersection(oids))
    if asked:
        arguments = ("-c", "fetch.negotiationAlgorithm=noop", "fetch", "-q", "--no-tags", "--no-write-fetch-head",
                     "--filter=blob:none", "--stdin", "origin")  # fmt: skip
        what = f"{done:,} of {total:,} files are there; the rest"
        _tried(lambda: _git(root, *arguments, input="\n".join(asked)), what)


def _tried(action: Callable[[], object], what: str) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            action()
            return
        except DatasetError as error:
            if attempt == ATTEMPTS:
                raise DatasetError(
                    f"{what} could not be fetched ({error}); run the same command to continue"
                ) from error
            time.sleep(attempt)


def _intact(path: Path, oid: str) -> bool:
    """True where the file has the content of the git object `oid`."""
    if not path.is_file():
        return False
    data = path.read_bytes()
    return sha1(b"blob %d\0" % len(data) + data).hexdigest() == oid


def _verified(root: Path, expected: dict[str, int]) -> str:
    from gmiqa.data.datasets import load

    table = load("biq2021", root).table
    counts = {part: int((table["split"] == part).sum()) for part in expected}
    if counts != expected:
        counted, wanted = (", ".join(f"{n:,} {part}" for part, n in c.items()) for c in (counts, expected))
        raise DatasetError(f"{root} has {counted} images, expected {wanted}")
    return f"{root}: " + ", ".join(f"{n:,} {part}" for part, n in counts.items()) + " images, all intact"


def _git(root: Path, *arguments: str, input: str | None = None, check: bool = True) -> str:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1", "LC_ALL": "C"}
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, input=input, capture_output=True, text=True, env=environment)
    if check and done.returncode:
        reason = next((line for line in reversed(done.stderr.strip().splitlines()) if line), "no reason given")
        raise DatasetError(f"git {arguments[0]}: {reason}")
    return done.stdout
