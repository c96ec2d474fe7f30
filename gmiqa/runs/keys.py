"""The key of a stage: its notebook's code, parameters, our modules, the keys upstream, the data."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gmiqa.settings import Settings

PACKAGES = ("gmiqa", "gmiqa_core")
SOURCE = Path(__file__).resolve().parents[2]
# Their effect is in the key already: a parameter's value, not its help text, makes a result.
LEFT_OUT = "gmiqa.settings"
NOT_DATA = ("run", "device")


def key_parts(notebook: Path, settings: Settings, upstream: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Everything that a stage's result depends on, apart, so that a change can be named."""
    code = notebook_code(notebook)
    return {
        "notebook": _digest(ast.dump(ast.parse(code))),
        "parameters": {n: settings[n] for n in sorted(settings) if n != "run"},
        "modules": {module: _module_digest(module) for module in sorted(reached(code))},
        "upstream": dict(sorted((upstream or {}).items())),
        "data": {n: fingerprint(settings[n]) for n in sorted(settings)
                 if n not in NOT_DATA and isinstance(settings[n], str) and is_path(settings[n])},
    }


def key(parts: dict[str, Any]) -> str:
    return _digest(json.dumps(parts, sort_keys=True))


def differences(before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    """Why two keys differ, in words."""
    if not before:
        return ["its record holds no key"]
    reasons = []
    if before.get("notebook") != after["notebook"]:
        reasons.append("the notebook's code changed")
    old, new = before.get("parameters", {}), after["parameters"]
    reasons += [f"{n}: {old.get(n, 'unset')} → {new.get(n, 'gone')}" for n in sorted({*old, *new})
                if old.get(n) != new.get(n)]
    old, new = before.get("modules", {}), after["modules"]
    changed = [m.removeprefix("gmiqa.") for m in sorted({*old, *new}) if old.get(m) != new.get(m)]
    if changed:
        reasons.append("modules changed: " + ", ".join(changed[:4]) + (" ..." if len(changed) > 4 else ""))
    old, new = before.get("upstream", {}), after["upstream"]
    reasons += [f"{n} has a new result" for n in sorted({*old, *new}) if old.get(n) != new.get(n)]
    old, new = before.get("data", {}), after["data"]
    reasons += [f"the files of {n} changed" for n in sorted({*old, *new}) if old.get(n) != new.get(n)]
    return reasons


def notebook_code(notebook: Path) -> str:
    """The code cells without the parameters cell, comments and layout: markdown may change freely."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"
             and "parameters" not in cell.get("metadata", {}).get("tags", [])]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    lines = [line if not line.lstrip().startswith(("%", "!")) else f"{line.lstrip()!r}" for line in text.splitlines()]
    return "\n".join(lines)


def reached(code: str) -> set[str]:
    """Names of all modules of ours that ``code`` imports, however deep and however late."""
    found: set[str] = set()
    waiting = _imports(code, package="")
    while waiting:
        module = waiting.pop()
        if module in found or module.startswith(LEFT_OUT):
            continue
        found.add(module)
        waiting |= _module_imports(module)
    return found


def fingerprint(path: str | Path) -> str:
    """A digest of names, sizes and modification times: reading a large data set in full would take minutes."""
    path = resolve(path)
    if path.is_file():
        entries = [(path.name, path.stat().st_size, path.stat().st_mtime_ns)]
    else:
        entries = sorted((os.path.relpath(entry.path, path), entry.stat().st_size, entry.stat().st_mtime_ns)
                         for entry in _walk(path))
    return _digest(json.dumps(entries))


def resolve(path: str | Path) -> Path:
    from gmiqa.runs.provenance import repository_root
    path = Path(path).expanduser()
    return path if path.is_absolute() else repository_root() / path


def is_path(text: str) -> bool:
    """True for a parameter that points at files: it holds a separator or a suffix, and something is there."""
    return bool(text) and (os.sep in text or "." in text) and resolve(text).exists()


def _walk(folder: Path) -> list[os.DirEntry]:
    entries = []
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as scan:
            for entry in scan:
                if entry.is_dir():
                    waiting.append(Path(entry.path))
                else:
                    entries.append(entry)
    return entries


def _digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]


@cache
def _file(module: str) -> Path | None:
    """The file of a module, an ``__init__.py`` for a package, None where there is no such module."""
    path = SOURCE.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _tree(module: str) -> ast.Module:
    file = _file(module)
    assert file is not None
    return ast.parse(file.read_bytes())


@cache
def _module_digest(module: str) -> str:
    """Code without comments, docstrings and layout, and the data files that lie beside it and that it names."""
    tree = _tree(module)
    text = ast.dump(_without_docstrings(tree))
    file = _file(module)
    assert file is not None
    for name in sorted({node.value for node in ast.walk(tree)
                        if isinstance(node, ast.Constant) and isinstance(node.value, str)}):
        if not re.fullmatch(r"\w[\w./-]{0,80}", name) or name.endswith(".py"):
            continue
        for beside in {file.parent / name, SOURCE / "gmiqa" / name}:
            if beside.is_file():
                text += _digest(beside.read_bytes())
            elif beside.is_dir() and not (beside / "__init__.py").exists():
                text += "".join(_digest(Path(entry.path).read_bytes()) for entry in
                                sorted(_walk(beside), key=lambda e: e.path) if not entry.name.endswith(".pyc"))
    return _digest(text)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(
                    first.value.value, str):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


@cache
def _module_imports(module: str) -> set[str]:
    file = _file(module)
    assert file is not None
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found = _imports(_tree(module), package)
    if any(isinstance(node, ast.Attribute) and node.attr == "import_module" for node in ast.walk(_tree(module))):
        # A name put together at run time: everything in the package may be meant.
        found |= {f"{package}.{path.stem}" for path in file.parent.glob("*.py") if path.stem != "__init__"}
    return found


def _imports(code: str | ast.Module, package: str) -> set[str]:
    """Modules of ours named by import statements anywhere in ``code``, with the packages above them."""
    tree = ast.parse(code) if isinstance(code, str) else code
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[:len(parents) - node.level + 1], *([base] if base else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif (isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value
              and node.value.partition(".")[0] in PACKAGES):
            names.add(node.value)
    found: set[str] = set()
    for name in names:
        parts = name.split(".")
        if parts[0] in PACKAGES:
            found |= {p for p in (".".join(parts[:k]) for k in range(1, len(parts) + 1)) if _file(p)}
    return found
