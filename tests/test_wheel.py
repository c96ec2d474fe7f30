"""The wheel: installed alone in a fresh environment, without any extra, it scores a picture."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gmiqa.data import embedded, images
from gmiqa.score import Scorer

ROOT = Path(__file__).parents[1]


def run(*command, **options):
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240, env=clean, **options)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The Python of a new environment that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    kept = shutil.ignore_patterns("__pycache__")
    for package in ("gmiqa", "gmiqa_core"):
        shutil.copytree(ROOT / package, source / package, ignore=kept)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    assert built.returncode == 0, built.stdout + built.stderr
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    assert uv, "uv belongs to the extra 'dev'"
    assert run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv").returncode == 0
    python = folder / "venv" / "bin" / "python"
    done = run(uv, "pip", "install", "--quiet", "--python", python, *folder.glob("*.whl"))
    if done.returncode:
        pytest.skip(f"no packages here, perhaps no network: {done.stderr.strip().splitlines()[-1]}")
    return python


def test_it_scores_a_photograph_as_this_environment_does(installed, tmp_path):
    images.write(embedded.photographs()["coffee"], tmp_path / "photo.png")
    done = run(installed.parent / "gmiqa", "score", tmp_path / "photo.png", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = Scorer(device="cpu").score(tmp_path / "photo.png")
    assert json.loads(done.stdout)["quality"] == pytest.approx(expected.quality, abs=0.05)


def test_it_brings_nothing_of_weight(installed):
    listed = run(installed, "-c", "import importlib.metadata as m; print(*{d.name.lower() for d in m.distributions()})")
    packages = set(listed.stdout.split())
    assert {"gmiqa", "numpy", "pillow", "onnxruntime"} <= packages and len(packages) <= 12, packages
    size = sum(path.stat().st_size for path in installed.parents[1].rglob("*") if path.is_file() and
               not path.is_symlink())
    assert size < 250e6


def test_what_needs_the_lab_says_so_in_one_line(installed, tmp_path):
    for command in (["run"], ["distort", "--list"], ["export", "a.safetensors", "b.onnx"]):
        done = run(installed.parent / "gmiqa", *command, cwd=tmp_path)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "light install" in done.stderr
    assert run(installed.parent / "gmiqa", "--help", cwd=tmp_path).returncode == 0
