"""Imports: light at the door, and nobody imports upwards."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch_geometric", "learn2learn", "gym", "umap", "numba", "skimage", "sklearn", "matplotlib", "papermill",
         "ipywidgets", "IPython", "ray", "playwright")
# Who stands on whom, from the ground up; rooms in one row do not import each other.
LAYERS = (
    ("core.errors", "core.files", "core.shapes"),
    ("core.batch",),
    ("core.losses",),
    ("core.backbone",),
    ("core.efficientnet", "core.graph", "core.presets"),
    ("core.local_quality",),
    ("core.network",),
    ("core.checkpoints", "core.resume", "core.distributed", "core.schedule"),
    ("core.step",),
    ("core.training",),
    ("core.prediction",),
    ("core.meta_learning", "core.pretraining", "core.finetuning"),
    ("settings", "threads", "recorded"),
    ("data", "features"),
    ("evaluate", "torch_engine"),
    ("baselines", "score"),
    ("base_networks", "imagenet", "mobilenet", "targets"),
    ("recipes",),
    ("experiments",),
    ("release",),
    ("figures",),
    ("widgets",),
    ("runs",),
    ("report",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
ANYWHERE = {"runs.progress"}  # bars and plain lines: no knowledge of runs in it, used by every long loop


def modules():
    for package in ("gmiqa_core", "gmiqa"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, path


def short(name):
    """gmiqa_core.graph -> core.graph, gmiqa.data.images -> data.images."""
    return name.replace("gmiqa_core", "core", 1) if name.startswith("gmiqa_core") else name.removeprefix("gmiqa.")


def room_of(name):
    parts = short(name).split(".")
    return ".".join(parts[:2]) if parts[0] == "core" else parts[0]


def imported(path):
    """Our modules that the file names anywhere, lazily or not, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module in ("gmiqa", "gmiqa_core"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("gmiqa", "gmiqa_core"))


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_nobody_imports_upwards(name, path):
    room = room_of(name)
    if name in ("gmiqa", "gmiqa_core", "gmiqa.__main__"):
        return
    assert room in LEVEL, f"{room}: give it a place in LAYERS"
    for other in imported(path):
        target = room_of(other)
        if target in LEVEL and target != room and short(other) not in ANYWHERE:
            assert LEVEL[target] < LEVEL[room], f"{name} imports {other}, which does not stand below it"


def test_the_method_imports_nothing_of_the_toolkit_and_stays_thin():
    files = [path for name, path in modules() if name.startswith("gmiqa_core")]
    assert not [other for path in files for other in imported(path) if not other.startswith("gmiqa_core")]
    assert all(path.parent.name == "gmiqa_core" for path in files), "the method is flat"
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 2500


def test_the_method_needs_torch_torch_geometric_and_learn2learn_only():
    names = [name for name, _ in modules() if name.startswith("gmiqa_core")]
    blocked = ("pandas", "sklearn", "skimage", "matplotlib", "papermill", "IPython", "safetensors", "PIL", "yaml")
    code = f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
    loaded_after(code + "\n".join(f"import {name}" for name in names))


def test_meta_learning_takes_of_learn2learn_what_it_uses():
    made = ("from torch import nn; from gmiqa_core.meta_learning import MetaLearner; "
            "MetaLearner(nn.Linear(2, 1)).clone()")
    assert not loaded_after(made) & {"gym", "torchvision", "pandas", "scipy"}


def loaded_after(statement):
    code = f"{statement}\nimport sys\nprint(' '.join(sorted(set(m.split('.')[0] for m in sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_package_itself_loads_nothing_heavy():
    assert not loaded_after("import gmiqa, gmiqa_core") & {*HEAVY, "torch", "numpy", "pandas"}


def test_no_module_loads_a_heavy_library_at_import():
    names = [name for name, _ in modules() if not name.endswith("__main__") and not name.startswith("gmiqa.widgets")]
    whole = "\n".join(f"import {name}" for name in names)
    assert not loaded_after(whole) & set(HEAVY)
