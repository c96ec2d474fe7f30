"""A Chromium, and the demonstration in JupyterLab and in Voila, each opened once."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 400  # for a page to be ready: two kernels may start on a busy machine
UPLOAD_MB = 5


@pytest.fixture(scope="session")
def browser(chromium):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The notebook with an untrained model, beside pictures to upload."""
    import torch

    from gmiqa.data import images
    from gmiqa_core import checkpoints, network

    folder = tmp_path_factory.mktemp("demo")
    torch.manual_seed(0)
    checkpoint = checkpoints.save(network.build("tiny"), folder / "model.safetensors", max_side=256)
    notebook = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            text = "".join(cell["source"]).replace('checkpoint: str = ""', f'checkpoint: str = "{checkpoint}"')
            cell["source"] = text.replace('"outputs/quick"', f'"{folder / "run"}"')
    (folder / "demo.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    (folder / "pictures").mkdir()
    x = torch.rand(3, 90, 120, generator=torch.manual_seed(1))
    images.write(x, folder / "pictures" / "mine.png")
    images.write(x.flip(-1), folder / "pictures" / "other.png")
    (folder / "pictures" / "broken.jpg").write_bytes(b"no picture at all")
    (folder / "large.jpg").write_bytes(bytes((UPLOAD_MB + 1) * 1_000_000))
    return folder


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="session", params=["voila", "lab"])
def demo(request, browser, folder):
    """The page with every widget on it, in a window tall enough to hold them all."""
    port = _free_port()
    if request.param == "voila":
        command, path = ["voila", str(folder / "demo.ipynb"), "--no-browser", f"--port={port}"], "/"
    else:
        command = ["jupyter-lab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}",
                   "--IdentityProvider.token=", f"--ServerApp.port={port}", "--LabApp.news_url=None"]  # fmt: skip
        path = "/lab/tree/demo.ipynb"
    command[0] = str(Path(sys.executable).parent / command[0])
    log = open(folder / f"{request.param}.log", "wb")  # noqa: SIM115 - closed below
    server = subprocess.Popen(
        command, stdout=log, stderr=log, cwd=folder, env=os.environ | {"GMIQA_UPLOAD_MB": str(UPLOAD_MB)}
    )
    page = browser.new_page(viewport={"width": 1280, "height": 4400})
    page.set_default_timeout(SECONDS * 1000)
    try:
        _wait_for(port, server)
        page.goto(f"http://127.0.0.1:{port}{path}")
        if request.param == "lab":
            page.locator("h1:has-text('Score pictures')").wait_for()
            _run_all(page)
        page.get_by_text("14 pictures ranked").wait_for()
        page.front = request.param
        yield page
        if shots := os.environ.get("BROWSER_SCREENSHOTS"):
            page.screenshot(path=Path(shots) / f"{request.param}.png")
    except Exception as error:  # what the server and the page say; the browser alone only tells that time ran out
        written = Path(log.name).read_text(encoding="utf-8", errors="replace")[-1500:]
        shown = page.inner_text("body")[:1500] if page.url.startswith("http") else "no page"
        pytest.fail(f"{str(error)[:500]}\n--- the server:\n{written}\n--- the page:\n{shown}", pytrace=False)
    finally:
        page.close()
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        log.close()


def _run_all(page) -> None:
    """Run All Cells, asked again while no cell waits or has run: JupyterLab loses it before its kernel is connected."""
    from playwright.sync_api import TimeoutError as Late

    begun = page.locator(".jp-InputArea-prompt").filter(has_text=re.compile(r"\[(\*|\d+)\]")).first
    for _ in range(SECONDS // 10):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()
        try:
            return begun.wait_for(timeout=10_000)
        except Late:
            continue
    raise TimeoutError("JupyterLab ran no cell")


def _wait_for(port: int, server: subprocess.Popen) -> None:
    for _ in range(SECONDS * 2):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert server.poll() is None, "the server ended: see its log beside the notebook"
            time.sleep(0.5)
    raise TimeoutError(f"nothing answers on port {port}")
