"""Run folders, their provenance, and the papermill chain. A notebook needs the three names below.

    stage.py       what a notebook calls: parameters, figures, tables, numbers, claims
    progress.py    a bar in JupyterLab, plain lines in batch
    provenance.py  run.json, versions, folders that are cleared only if they are ours
    keys.py        what a stage's result depends on, and what of that has changed
    order.py       which notebook needs which
    schedule.py    when a stage begins, on how many threads; estimate.py and pace.py: how long it takes
    chain.py       runs them with papermill (plan.py says which; execute.py is one child process)
    sweep.py       one chain run per point of a grid
"""

from typing import TYPE_CHECKING, Any

from gmiqa.runs.progress import Progress, progress

if TYPE_CHECKING:
    from gmiqa.runs.stage import Stage, open_stage

__all__ = ["Progress", "Stage", "open_stage", "progress"]


def __getattr__(name: str) -> Any:
    # A stage needs pandas and torch; whoever only shows progress does not.
    if name in __all__:
        from gmiqa.runs import stage

        return getattr(stage, name)
    raise AttributeError(f"module 'gmiqa.runs' has no attribute {name!r}")
