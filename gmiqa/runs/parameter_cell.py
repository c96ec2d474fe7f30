"""Which names a notebook was given, found in the cells themselves: papermill only warns about a mistyped one."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

INJECTED = ("# Parameters", "# Injected parameters")  # the first line that papermill writes


def given(namespace: Mapping[str, Any]) -> dict[str, list[str]]:
    """``{"notebook": names, "papermill": names}``, later ones winning.

    ``In`` is IPython's history. Going back from the current cell: every cell that only assigns literals counts, up to
    the parameters cell, which is the one whose assignments are annotated. Outside IPython the namespace itself is
    the parameters cell.
    """
    history = namespace.get("In")
    if not history:
        names = [n for n, value in namespace.items()
                 if not n.startswith("_") and isinstance(value, (str, int, float, bool, list, tuple, type(None)))]
        return {"notebook": names, "papermill": []}
    found: dict[str, list[str]] = {"notebook": [], "papermill": []}
    for text in reversed(history[:-1]):
        injected = text.lstrip().startswith(INJECTED)
        names, annotated = assigned(text, literal=not injected)
        found["papermill" if injected else "notebook"] += names
        if annotated:
            break
    return {label: [n for n in dict.fromkeys(names) if n in namespace] for label, names in found.items()}


def assigned(text: str, literal: bool = True) -> tuple[list[str], bool]:
    """Names that a cell assigns, and whether it annotates them; nothing if it does anything else than assign."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return [], False
    names, annotated = [], bool(body)
    for node in body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            return [], False
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if not isinstance(target, ast.Name) or (isinstance(node, ast.Assign) and len(node.targets) > 1):
            return [], False
        if literal and not _literal(node.value):
            return [], False
        annotated &= isinstance(node, ast.AnnAssign)
        names.append(target.id)
    return names, annotated and bool(names)


def _literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True
