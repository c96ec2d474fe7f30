"""The key of a stage: its notebook's code, parameters, threads, data, versions, our modules, the keys upstream.

A finished stage depends on those of our modules that it had loaded when it closed, however they were imported, and on
no others: its record names them. An unfinished one may still load any of them, so its key counts them all.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from gmiqa.runs import provenance
from gmiqa.runs.order import NEEDS
from gmiqa.settings import TABLE, Settings

PACKAGES = ("gmiqa", "gmiqa_core")
LIBRARIES = ("torch", "numpy")
SOURCE = Path(__file__).resolve().parents[2]
# Their effect is in the key already: a parameter's value, not its help text, makes a result.
LEFT_OUT = "gmiqa.settings"
NOT_DATA = ("run", "device")


def key_parts(notebook: Path, settings: Settings, upstream: Mapping[str, str] | None = None,
              threads: int = 1) -> dict[str, Any]:
    """Everything that a stage's result may depend on, part by part, so that a change can be named."""
    values = settings.plain()
    return {
        "notebook": _digest(ast.dump(ast.parse(notebook_code(notebook)))),
        "parameters": {n: values[n] for n in sorted(values) if n != "run"},
        "threads": threads,
        "versions": {"python": platform.python_version().rpartition(".")[0], **provenance.versions(LIBRARIES)},
        "modules": modules(),
        "upstream": dict(sorted((upstream or {}).items())),
        "data": {n: fingerprint(values[n]) for n in sorted(values)
                 if n not in NOT_DATA and isinstance(values[n], str) and is_path(n, values[n])},
    }


def narrowed(parts: dict[str, Any], names: Iterable[str] | None) -> dict[str, Any]:
    """``parts`` with these of our modules alone; with all of them where it is not known which were loaded."""
    if names is None:
        return parts
    return parts | {"modules": {name: parts["modules"].get(name, "gone") for name in sorted(names)}}


def as_recorded(parts: dict[str, Any], record: Mapping[str, Any] | None) -> dict[str, Any]:
    """``parts`` with the modules that the finished stage of ``record`` had loaded, and with its number of threads.

    Another machine plans other threads, and what is finished stays so. Whoever sets ``threads`` changes a parameter.
    """
    recorded = (record or {}).get("parts") or {}
    return narrowed(parts | {"threads": recorded.get("threads", parts["threads"])}, recorded.get("modules"))


def key(parts: dict[str, Any]) -> str:
    return _digest(json.dumps(parts, sort_keys=True))


def begin_by_hand(root: Path, run: Path, name: str, settings: Settings, threads: int) -> dict[str, Any]:
    """Make a stage's folder ready for a notebook outside the chain; what its result may depend on, {} if unknown."""
    notebook = root / "notebooks" / f"{name}.ipynb"
    if not notebook.exists():
        provenance.begin(run / name, "", hand=True)
        return {}
    records = {needed: provenance.record(run / needed) for needed in NEEDS[name]}
    upstream = {needed: provenance.upstream_key(record) for needed, record in records.items() if record}
    parts, record = key_parts(notebook, settings, upstream, threads), provenance.record(run / name)
    unchanged = record is not None and record.get("parts") == as_recorded(parts, record)
    provenance.begin(run / name, key(parts), hand=True, unchanged=unchanged)
    return parts


def loaded() -> list[str]:
    """Our modules that this process has imported by now, whatever asked for them.

    Workers of torchrun load no others: they call a function whose module, with all that it imports, is loaded here.
    """
    return sorted(name for name in list(sys.modules)
                  if name.partition(".")[0] in PACKAGES and not name.startswith(LEFT_OUT))


def differences(before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    """Why two keys differ, in words."""
    if not before:
        return ["its record holds no key"]

    def changed(part: str) -> list[str]:
        old, new = before.get(part, {}), after[part]
        return [n for n in sorted({*old, *new}) if old.get(n) != new.get(n)]

    reasons = ["the notebook's code changed"] if before.get("notebook") != after["notebook"] else []
    for part in ("parameters", "versions"):
        reasons += [f"{n}: {before.get(part, {}).get(n, 'unset')} → {after[part].get(n, 'gone')}"
                    for n in changed(part)]
    if names := [name.removeprefix("gmiqa.") for name in changed("modules")]:
        reasons.append("modules changed: " + ", ".join(names[:4]) + (" ..." if names[4:] else ""))
    reasons += [f"{n} has a new result" for n in changed("upstream")]
    return reasons + [f"the files of {n} changed" for n in changed("data")]


def notebook_code(notebook: Path) -> str:
    """The code cells without the parameters cell, comments and layout: markdown may change freely."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"
             and "parameters" not in cell.get("metadata", {}).get("tags", [])]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    lines = [line if not line.lstrip().startswith(("%", "!")) else f"{line.lstrip()!r}" for line in text.splitlines()]
    return "\n".join(lines)


def fingerprint(path: str | Path) -> str:
    """A digest of names, sizes and modification times: reading a large data set in full would take minutes."""
    path = resolve(path)
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns)] if path.is_file() else sorted(_below(path))
    return _digest(json.dumps(files))


def _below(path: Path) -> Iterator[tuple[str, int, int]]:
    """The files of a folder, but for dangling links. No folder is entered twice, and none that the folder lies in."""
    entered = {str(folder) for folder in path.resolve().parents}
    for here, folders, names in os.walk(path, followlinks=True):
        if (place := os.path.realpath(here)) in entered:
            folders.clear()
            continue
        entered.add(place)
        folders.sort()
        for name in names:
            file = Path(here, name)
            with suppress(OSError):
                state = file.stat()
                yield os.path.relpath(file, path), state.st_size, state.st_mtime_ns


def resolve(path: str | Path) -> Path:
    path = Path(path).expanduser()
    return path if path.is_absolute() else provenance.repository_root() / path


def is_path(name: str, text: str) -> bool:
    """True for a parameter that points at files: it is declared so or holds a separator or a suffix, and they exist."""
    declared = TABLE[name].path and text not in TABLE[name].words
    return bool(text) and (declared or os.sep in text or "." in text) and os.path.exists(resolve(text))


def _digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]


def modules() -> dict[str, str]:
    """Every module of ours: a digest of its code and of the data files that the code names."""
    found, data = {}, _data_files()
    for path in sorted(path for package in PACKAGES for path in (SOURCE / package).rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith(LEFT_OUT):
            code, words = _code(path, *_state(path))
            files = sorted({file for word in words & data.keys() for file in data[word]})
            found[name] = _digest(code + "".join(_content(file, *_state(file)) for file in files))
    return found


def _data_files() -> dict[str, list[Path]]:
    """The files beside our code and in params/, by the file's name and by that of its folder."""
    found: dict[str, list[Path]] = {}
    for top in (*PACKAGES, "params"):
        for path in (SOURCE / top).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                whole = path.parent == SOURCE / top or (path.parent / "__init__.py").exists()
                for word in [path.name] if whole else [path.name, path.parent.name]:
                    found.setdefault(word, []).append(path)
    return found


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


@cache
def _content(path: Path, time: int, size: int) -> str:
    return _digest(path.read_bytes())


@cache
def _code(path: Path, time: int, size: int) -> tuple[str, frozenset[str]]:
    """A digest of the code without comments, docstrings and layout, and the words that may name a file."""
    tree = _without_docstrings(ast.parse(path.read_bytes()))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return _digest(ast.dump(tree)), frozenset(w for text in texts if " " not in text for w in text.split("/"))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(
                    first.value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    return tree
