"""Helpers of the browser tests: a tiny page with the book's scripts, and JupyterLab."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from book_files import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import browser

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
PLOTLY = "application/vnd.plotly.v1+json"
SECONDS = 90.0


@contextmanager
def chromium():
    """A headless Chromium; without one the test is skipped, in CI it fails."""
    from playwright.sync_api import sync_playwright

    if browser.find() is None:
        why = "no Chromium found: install the system's package `chromium`"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with sync_playwright() as playwright:
        window = browser.launch(playwright)
        try:
            yield window
        finally:
            window.close()


def json_script(kind, content):
    body = json.dumps(content).replace("<", "\\u003c")
    return f'<script type="{kind}">{body}</script>'


def tiny_page(folder, figures=(), widgets=(), state=None):
    """Write a page as the book's plugin writes it: figures, widgets, local scripts."""
    import plotly

    library = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    for path in (*(ROOT / "_assets").glob("*.*"), library):
        shutil.copy(path, folder)
    parts = [
        f'<div class="bl-plotly" data-figure role="img" aria-label="a figure">'
        f"{json_script('application/json', json.loads(fig.to_json()))}</div>"
        for fig in figures
    ]
    parts += [json_script(VIEW, {"model_id": name}) for name in widgets]
    scripts = ("plotly.min.js", "plotly-render.js", "static-widgets.js")
    loads = "".join(f'<script defer src="{name}"></script>' for name in scripts)
    page = folder / "page.html"
    page.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>tiny</title>"
        f'<link rel="stylesheet" href="book.css">{loads}'
        f"<body>{''.join(parts)}{json_script(STATE, state or {'state': {}})}</body>"
    )
    return page


def widget_state(*widgets):
    """The state that a notebook stores for its widgets."""
    from ipywidgets.embed import embed_data

    return embed_data(list(widgets), drop_defaults=False)["manager_state"]


# ------------------------------------------------------------------- JupyterLab


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def lab_server(folder):
    """A JupyterLab of its own on `folder`; yields its address."""
    home, port = folder / ".jupyter-home", free_port()
    news = home / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    # all cells in the page at once, also those below its end
    tracker = home / "settings" / "@jupyterlab" / "notebook-extension"
    tracker.mkdir()
    (tracker / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    places = {"CONFIG_DIR": "config", "DATA_DIR": "data", "RUNTIME_DIR": "runtime"}
    env = {key: value for key, value in os.environ.items() if key != "BIGLEARN_STATIC"}
    env |= {f"JUPYTER_{key}": str(home / name) for key, name in places.items()}
    env["JUPYTERLAB_SETTINGS_DIR"] = str(home / "settings")
    env["JUPYTERLAB_WORKSPACES_DIR"] = str(home / "workspaces")
    env["OMP_WAIT_POLICY"] = "PASSIVE"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += ["--IdentityProvider.token=", "--ServerApp.password="]
    command += [f"--ServerApp.root_dir={folder}"]
    with (folder / ".lab.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for_server(address, server, folder / ".lab.log")
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_for_server(address, server, log):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/api", timeout=2) as answer:
                return answer.read()
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def open_notebook(page, address, name):
    """Open a notebook and wait until its kernel is idle."""
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.wait_for_selector(".jp-NotebookPanel", timeout=SECONDS * 1000)
    idle = "document.body.innerText.includes('(ipykernel) | Idle')"
    page.wait_for_function(idle, timeout=SECONDS * 1000)


def run_all(page):
    """Run all cells; what is sent before the kernel's socket is up is lost: again."""
    started = "[...document.querySelectorAll('.jp-InputPrompt')]"
    started += ".some(prompt => /\\[[*\\d]/.test(prompt.innerText))"
    for _attempt in range(5):
        page.click('.lm-MenuBar-itemLabel:text-is("Run")')
        page.click('.lm-Menu-item[data-command="runmenu:run-all"]')
        try:
            page.wait_for_function(started, timeout=5000)
            return
        except Exception as error:
            if "Timeout" not in str(error):
                raise
            page.keyboard.press("Escape")
    raise RuntimeError("JupyterLab did not start to run the cells")


def wait_until_run(page):
    """Wait until every code cell has run; an error in one fails the test."""
    state = """() => {
      const cells = [...document.querySelectorAll('.jp-CodeCell')];
      const text = cell => cell.querySelector('.cm-content')?.innerText.trim();
      const failed = [...document.querySelectorAll('.jp-OutputArea-output')]
        .find(output => output.innerText.includes('Traceback (most recent call'));
      if (failed) return 'error: ' + failed.innerText.slice(-600);
      const open = cells.filter(cell => text(cell) !== ''
        && !/\\[\\d+\\]/.test(cell.querySelector('.jp-InputPrompt').innerText));
      return cells.length && !open.length ? 'done' : '';
    }"""
    found = page.wait_for_function(state, timeout=300_000).json_value()
    if found != "done":
        pytest.fail(f"a cell failed in JupyterLab: {found}")
