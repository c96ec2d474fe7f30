"""Scoring a picture stands on few rooms and three packages: no torch, no training, no data sets."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gmiqa.data import embedded, images
from gmiqa.release.export import to_onnx
from gmiqa.torch_engine import NAMES
from gmiqa_core import network

SCORE = Path(__file__).parents[1] / "gmiqa" / "score"
HEAVY = ("torch", "torchvision", "torch_geometric", "learn2learn", "pandas", "matplotlib", "sklearn", "scipy",
         "skimage", "safetensors", "yaml", "psutil", "IPython", "ray", "onnx")
ROOMS = ("gmiqa", "gmiqa.cli", "gmiqa.data", "gmiqa.data.pixels", "gmiqa.runs", "gmiqa.runs.progress", "gmiqa.score",
         "gmiqa.threads", "gmiqa_core", "gmiqa_core.errors", "gmiqa_core.files")
SCORE_ALL = f"""
import json, sys
for name in {HEAVY}:
    sys.modules[name] = None  # an import raises
from gmiqa.cli import main
assert main(["score", sys.argv[1], "--json", "--checkpoint", sys.argv[2], "--map", sys.argv[3], "--sheet",
             sys.argv[3] + "/sheet.html"]) == 0
print(json.dumps(sorted(name for name, module in sys.modules.items() if module is not None)))
"""


@pytest.mark.parametrize("path", sorted(SCORE.glob("*.py")), ids=lambda path: path.stem)
def test_no_file_of_the_room_names_a_heavy_package(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
            [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        heavy = {name.partition(".")[0] for name in names} & set(HEAVY)
        assert not heavy - ({"ray"} if path.stem == "ray_engine" else set()), f"{path.name} imports {heavy}"


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A photograph scored by the command in a process where every heavy package is missing."""
    folder = tmp_path_factory.mktemp("light")
    photograph = next(iter(embedded.photographs().values()))
    images.write(photograph, folder / "photo.png")
    (folder / "model.onnx").write_bytes(to_onnx(network.build("tiny"), {"names": NAMES, "max_side": 512}))
    done = subprocess.run([sys.executable, "-c", SCORE_ALL, *map(str, (folder / "photo.png", folder / "model.onnx",
                          folder / "maps"))], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    score, modules = map(json.loads, done.stdout.splitlines())
    return folder, score, modules


def test_a_photograph_is_scored_without_them(scored):
    folder, score, _ = scored
    assert 0 <= score["quality"] <= 100 and len(score["distortions"]) == 26
    written = [path for path in (folder / "maps").rglob("*.png")]
    assert len(written) == 1 and images.size(written[0]) == images.read(folder / "photo.png", 1024).shape[:0:-1]
    assert (folder / "maps" / "sheet.html").is_file()


def test_scoring_stands_on_few_rooms(scored):
    ours = {name for name in scored[2] if name.split(".")[0] in ("gmiqa", "gmiqa_core")}
    assert {name for name in ours if not name.startswith(("gmiqa.score.", "gmiqa.data.pixels.", "gmiqa.cli."))} <= \
        set(ROOMS)


def test_a_missing_package_is_one_line_that_says_what_to_do(scored):
    folder = scored[0]
    (folder / "x.safetensors").write_bytes(b"")
    for arguments, words in ((["run"], "'run' needs"), (["distort", "--list"], "'distort' needs"),
                             (["score", str(folder / "photo.png"), "--checkpoint", str(folder / "x.safetensors")],
                              "gmiqa export"),
                             (["export", "x.safetensors", "y.onnx"], "'export' needs")):
        code = (f"import sys\nfor name in {HEAVY}: sys.modules[name] = None\n"
                f"from gmiqa.cli import main; sys.exit(main({arguments}))")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                              env=os.environ | {"NO_COLOR": "1"})
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
