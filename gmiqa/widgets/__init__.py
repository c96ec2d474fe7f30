"""What people explore with: one file per widget.

Each is a function. Where somebody can use a widget, it returns an ipywidgets box; where nobody can (papermill), it
returns a matplotlib figure of the same content. `show` displays either.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any


def in_voila() -> bool:
    """True in a kernel that serves a Voila page."""
    return os.environ.get("SERVER_SOFTWARE", "").startswith("voila")


def interactive() -> bool:
    """True where somebody can use a widget: JupyterLab and Voila. papermill executes cells without stdin."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    kernel = getattr(get_ipython(), "kernel", None)
    return in_voila() or bool(getattr(kernel, "_allow_stdin", False))


def show(view: Any, stage: Any, name: str, caption: str, alt: str) -> None:
    """Display a widget, or register the figure that stands in for it."""
    if hasattr(view, "savefig"):
        stage.figure(view, name, caption, alt=alt)
    else:
        from IPython.display import display

        from gmiqa.widgets.parts import page_guard

        view.add_class("gmiqa-view")
        display(page_guard(), view)


@contextmanager
def quiet_in_voila() -> Iterator[None]:
    """Hides printed parameters and records where the notebook is a page for visitors."""
    from IPython.utils.capture import capture_output

    with capture_output() if in_voila() else nullcontext():
        yield
