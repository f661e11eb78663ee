"""A headless Chromium that reaches nothing but files: for page tests and pictures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright, Route

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def find() -> str | None:
    """The path of an installed Chromium, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def launch(playwright: Playwright) -> Browser:
    """Start the browser.

    Raises:
        RuntimeError: if none is installed.
    """
    path = find()
    if path is None:
        raise RuntimeError(f"no Chromium: install one of {', '.join(NAMES)}.")
    return playwright.chromium.launch(executable_path=path, args=FLAGS)


@contextmanager
def open_page(
    browser: Browser, path: Path, width: int = 1280, theme: str = "light"
) -> Iterator[Page]:
    """Open a file in a fresh window; every request for something else is refused.

    What went wrong is collected in `page.complaints`: refused requests, errors of
    scripts, messages of level error on the console.
    """
    size = {"width": width, "height": 900}
    context = browser.new_context(viewport=size, color_scheme=theme)
    page = context.new_page()
    complaints: list[str] = []

    def guard(route: Route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            complaints.append(f"asks for {route.request.url}")
            route.abort()

    context.route("**/*", guard)
    page.on("pageerror", lambda error: complaints.append(f"script error: {error}"))
    page.on(
        "console",
        lambda m: complaints.append(f"console: {m.text}") if m.type == "error" else 0,
    )
    page.on(
        "requestfailed", lambda r: complaints.append(f"failed: {r.url} {r.failure}")
    )
    page.complaints = complaints
    page.goto(path.resolve().as_uri())
    page.evaluate(
        "theme => { document.documentElement.dataset.theme = theme;"
        "document.documentElement.dataset.mode = theme; }",
        theme,
    )
    try:
        yield page
    finally:
        context.close()


def scroll_through(page: Page) -> None:
    """Bring every figure into view, as a reader does, and wait until it is drawn."""
    for figure in page.query_selector_all(".bl-plotly"):
        figure.scroll_into_view_if_needed()
        page.wait_for_function("div => div.dataset.drawn === 'true'", arg=figure)
    page.evaluate("window.scrollTo(0, 0)")
