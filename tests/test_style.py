"""Style and types are tests like the others: ruff and mypy are clean."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.timeout(600)
@pytest.mark.parametrize("tool", ["ruff check --quiet --output-format concise .",
                                  "mypy --no-error-summary gmiqa gmiqa_core"],
                         ids=["ruff", "mypy"])
def test_it_is_clean(tool):
    done = subprocess.run([sys.executable, "-m", *tool.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
