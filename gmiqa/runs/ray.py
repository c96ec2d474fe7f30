"""The runs of a sweep as Ray tasks: ``gmiqa sweep FILE --engine ray --jobs 8``.

Each run is the same chain command as elsewhere, on whichever machine of the cluster is free; the project and outputs/
must have the same path on all of them. A task whose machine dies is started again and the chain goes on from its last
finished stage.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from gmiqa.runs import provenance
from gmiqa.runs.sweep import Point
from gmiqa.score.ray_engine import start_ray

RETRIES = 3  # of a run whose process or machine dies; a run that fails by itself is not repeated


def execute(points: list[Point], jobs: int = 1) -> list[int]:
    """Run the points, at most ``jobs`` at a time; their exit statuses."""
    start_ray(jobs)
    import ray

    chain = ray.remote(num_cpus=1, max_retries=RETRIES)(run_point)
    root = str(provenance.repository_root())
    waiting, statuses = list(enumerate(points)), [0] * len(points)
    running: dict[Any, int] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            k, point = waiting.pop(0)
            running[chain.remote(point.command[1:], root, str(point.folder))] = k
        finished, _ = ray.wait(list(running))
        for task in finished:
            k = running.pop(task)
            try:
                statuses[k] = ray.get(task)
            except ray.exceptions.RayError as error:
                print(f"{points[k].name}: {error}", file=sys.stderr)
                statuses[k] = 1
            words = "is done" if statuses[k] == 0 else f"FAILED, see {points[k].folder / 'chain.txt'}"
            print(f"[{k + 1}/{len(points)}] {points[k].name} {words}", flush=True)
    return statuses


def run_point(command: list[str], root: str, folder: str) -> int:
    """One chain in a process of its own, its words in chain.txt; the exit status."""
    place = Path(root) / folder
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "chain.txt", "ab") as log:
        return subprocess.run([sys.executable, *command], cwd=root, stdout=log, stderr=log).returncode
