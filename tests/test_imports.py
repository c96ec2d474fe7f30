"""Imports: light at the door, and nobody imports upwards."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gmiqa_core"
HEAVY = ("torch_geometric", "learn2learn", "gym", "umap", "numba", "skimage", "sklearn", "matplotlib", "papermill",
         "ipywidgets", "IPython", "ray", "playwright")
# Who stands on whom, from the ground up; rooms in one row do not import each other.
LAYERS = (
    ("settings",),
    ("images",),
    ("distortions", "embedded"),
    ("datasets",),
    ("synthetic",),
    ("backbone", "mobilenet"),
    ("graph",),
    ("network",),
    ("training", "quality_aware", "distillation"),
    ("meta_learning",),
    ("pretraining",),
    ("finetuning",),
    ("metaqap",),
    ("evaluation",),
    ("baselines",),
    ("scoring", "embeddings"),
    ("figures",),
    ("widgets",),
    ("runs",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
ANYWHERE = {"runs.progress"}  # bars and plain lines: no knowledge of runs in it, used by every long loop


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        yield name or "__init__", path


def imported_rooms(path):
    """The gmiqa_core modules that the file names anywhere, lazily or not, as dotted names without the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("gmiqa_core.") for alias in node.names
                        if alias.name.startswith("gmiqa_core."))
        elif isinstance(node, ast.ImportFrom) and node.module == "gmiqa_core":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gmiqa_core."):
            yield node.module.removeprefix("gmiqa_core.")


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_nobody_imports_upwards(name, path):
    room = name.split(".")[0]
    if room in ("__init__", "__main__"):
        return
    assert room in LEVEL, f"{room}: give it a place in LAYERS"
    for other in imported_rooms(path):
        target = other.split(".")[0]
        if target in LEVEL and target != room and other not in ANYWHERE:
            assert LEVEL[target] < LEVEL[room], f"{name} imports {other}, which does not stand below it"


def loaded_after(statement):
    code = f"{statement}\nimport sys\nprint(' '.join(sorted(set(m.split('.')[0] for m in sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_package_itself_loads_nothing_heavy():
    assert not loaded_after("import gmiqa_core") & {*HEAVY, "torch", "numpy", "pandas"}


def test_no_module_loads_a_heavy_library_at_import():
    names = [name for name, _ in modules() if not name.endswith("__main__") and not name.startswith("widgets")]
    whole = "\n".join(f"import gmiqa_core.{name}" for name in names if name != "__init__")
    assert not loaded_after(whole) & set(HEAVY)
