"""Shared by all tests: one thread each (they run side by side), no screen, no use of the user's own settings."""

import os
import shutil
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["MPLBACKEND"] = "Agg"

import pytest  # noqa: E402

ROOT = Path(__file__).parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: needs a Chromium; BROWSER_TESTS=0 leaves it out")


def pytest_collection_modifyitems(items):
    """Tests under tests/browser are skipped, and say so, where there is no browser or the caller runs them later."""
    reason = None
    if os.environ.get("BROWSER_TESTS") == "0":
        reason = "browser tests are left out (BROWSER_TESTS=0)"
    elif CHROMIUM is None:
        reason = "no Chromium on this machine (Debian: apt-get install chromium)"
    for item in items:
        if "browser" in Path(item.fspath).relative_to(ROOT).parts[1:-1]:
            item.add_marker("browser")
            item.add_marker(pytest.mark.timeout(900))  # a server and two kernels start first
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def chromium():
    """The path of a Chromium."""
    return CHROMIUM


@pytest.fixture(scope="session", autouse=True)
def _own_homes(tmp_path_factory):
    """IPython's history and Jupyter's settings of the person who runs the tests are neither read nor written."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(home / "ipython"))
        patch.setenv("JUPYTER_CONFIG_DIR", str(home / "jupyter"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(home / "runtime"))
        yield
