"""Set-up: one set of pins for both ways in, and each missing thing is one clear line."""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
BASE = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
EXACT = [Requirement(line) for extra in EXTRAS.values() for line in extra]
WHOLE = [*BASE, *(Requirement(line) for extra in ("lab", "dev", "weights") for line in EXTRAS[extra])]
CONSTRAINTS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()
               if line.strip() and not line.startswith("#")]
PINNED = {canonicalize_name(r.name): r for r in CONSTRAINTS if not r.marker or r.marker.evaluate()}
SHELL_TOOLS = ("sh", "cat", "cksum", "dirname", "pwd", "awk", "date", "rm", "mkdir")


def test_constraints_pin_exactly_and_name_no_host_and_no_path():
    for requirement in CONSTRAINTS:
        assert requirement.url is None and [s.operator for s in requirement.specifier] == ["=="], requirement
    assert not re.search(r"://|@|file:|/home|--index", (ROOT / "constraints.txt").read_text())


def test_direct_pins_and_constraints_agree():
    for requirement in EXACT:
        assert str(requirement.specifier).startswith("=="), f"{requirement}: pin it"
        assert PINNED[canonicalize_name(requirement.name)].specifier == requirement.specifier, "make lock"


def test_what_scores_is_small_and_leaves_others_their_versions():
    assert {r.name for r in BASE} == {"numpy", "pillow", "onnxruntime"}
    for requirement in BASE:
        assert {s.operator for s in requirement.specifier} <= {">=", "<"}
        pinned = str(PINNED[canonicalize_name(requirement.name)].specifier).removeprefix("==")
        assert requirement.specifier.contains(pinned), "make lock"


def test_what_is_installed_is_what_is_pinned():
    """Everything that gmiqa pulls in, followed through the installed packages' own requirements."""
    left_out = set(PROJECT["tool"]["uv"]["exclude-dependencies"])
    seen, queue = set(), [canonicalize_name(r.name) for r in WHOLE]
    while queue:
        name = queue.pop()
        if name in seen or name in left_out:
            continue
        seen.add(name)
        assert name in PINNED, f"{name} is missing from constraints.txt: make lock"
        assert PINNED[name].specifier.contains(metadata.version(name).partition("+")[0], prereleases=True), name
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                queue.append(canonicalize_name(requirement.name))
    assert len(seen) > 100


def test_environment_yml_installs_the_same_set():
    """Its pip part refers to the project and its constraints, and repeats no version."""
    text = (ROOT / "environment.yml").read_text()
    environment = yaml.safe_load(text)
    pip = environment["dependencies"][-1]["pip"]
    assert "-e .[lab,dev,weights]" in pip and "-c constraints.txt" in pip and "==" not in text
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    python = next(d for d in environment["dependencies"] if str(d).startswith("python="))
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert tuple(map(int, python.removeprefix("python=").split("."))) >= tuple(map(int, lowest.split(".")))
    # learn2learn: built the same way, and without what it declares and nobody needs
    option, value = next(iter(PROJECT["tool"]["uv"]["config-settings-package"]["learn2learn"].items()))
    assert f'learn2learn --config-settings="{option}={value}"' in pip
    empty = {Path(line).name for line in pip if line.startswith("./")}
    assert empty == set(PROJECT["tool"]["uv"]["exclude-dependencies"])
    for line in pip:
        if line.startswith("./"):
            stand_in = tomllib.loads((ROOT / line / "pyproject.toml").read_text())
            assert stand_in["project"]["name"] == Path(line).name and "dependencies" not in stand_in["project"]


@pytest.fixture
def clone(tmp_path):
    """A folder with the set-up script, the pins, and a PATH that holds nothing but the shell's own tools."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/set_up.sh", tmp_path / "tools")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in SHELL_TOOLS:
        if path := shutil.which(tool):
            (tmp_path / "bin" / tool).symlink_to(path)
    fake(tmp_path, "df", "printf 'Filesystem Blocks Used Available\\n/dev/x 1 1 99999999\\n'")
    return tmp_path


def fake(clone, name, body):
    path = clone / "bin" / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def set_up(clone):
    done = subprocess.run([str(clone / "tools/set_up.sh")], env={"PATH": str(clone / "bin"), "HOME": str(clone)},
                          capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr.strip().splitlines()


ANY_PYTHON = f'exec {sys.executable} "$@"'
DISK_OF_3_GB = "printf 'Filesystem Blocks Used Available\\n/dev/x 1 1 3145728\\n'"


@pytest.mark.parametrize(
    ("python", "df", "words"),
    [
        (f'case "$2" in *version_info*) exit 1;; esac; {ANY_PYTHON}', None, "no Python >= 3.11 found"),
        (f'case "$2" in *ensurepip*) exit 1;; esac; {ANY_PYTHON}', None, "no venv module"),
        (ANY_PYTHON, DISK_OF_3_GB, "only 3 GB free here; .venv needs about 8 GB"),
        (f'case "$2" in *Python.h*) exit 1;; esac; {ANY_PYTHON}', None, "no Python.h"),
        (f'case "$2" in *Python.h*) exit 0;; esac; {ANY_PYTHON}', None, "no C compiler found"),
    ],
    ids=["python", "venv", "disk", "headers", "compiler"],
)
def test_what_is_missing_is_one_line(clone, python, df, words):
    fake(clone, "python3", python)
    if df:
        fake(clone, "df", df)
    code, _, errors = set_up(clone)
    assert code == 1 and len(errors) == 1 and words in errors[0]
    assert not (clone / ".venv").exists()


def test_a_venv_with_the_pins_stamp_is_left_alone_at_once(clone):
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/python").symlink_to(sys.executable)
    pins = subprocess.run("cat pyproject.toml constraints.txt | cksum", shell=True, cwd=clone, capture_output=True,
                          text=True).stdout.strip()
    (clone / ".venv/pins").write_text(f"{pins} {clone}\n")
    began = time.monotonic()
    assert set_up(clone) == (0, "", [])
    assert time.monotonic() - began < 2
    with open(clone / "constraints.txt", "a") as file:  # other pins: no longer left alone
        file.write("# changed\n")
    code, _, errors = set_up(clone)
    assert code == 1 and len(errors) == 1  # it went on, and stopped at what this PATH lacks


def test_make_sets_up_before_it_does_anything():
    if not shutil.which("make"):
        pytest.skip("no make on this machine")
    for target in ("run", "test", "lab", "demo", "gallery", "bench", "lock"):
        outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # as by hand
        plan = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True,
                              env=outside).stdout
        assert plan.splitlines()[0].strip() == "tools/set_up.sh", target
