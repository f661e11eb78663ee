"""Take pictures of rendered pages, to look at them: whole pages, both themes.

    python tools/screenshots.py [--width 1280 390] [--theme light dark] [page ...]

A page is named as in `_toc.yml`, without the folder; all of them if none is given. The
pictures land in `_build/screens/`, the parts of a long page one after another.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent))
import browser
import check_pages

ROOT = Path(__file__).resolve().parents[1]
SCREENS = ROOT / "_build" / "screens"
PIECE = 2400  # pixels


def take(page: Page, name: str, folder: Path) -> list[Path]:
    """Photograph the page from top to end; return the paths of the pieces."""
    height = page.evaluate("document.documentElement.scrollHeight")
    size = {"width": page.viewport_size["width"], "height": min(height, PIECE)}
    page.set_viewport_size(size)
    paths = []
    for number, top in enumerate(range(0, height, PIECE)):
        page.evaluate("top => window.scrollTo(0, top)", top)
        page.wait_for_timeout(300)
        paths.append(folder / f"{name}-{number}.png")
        page.screenshot(path=paths[-1])
    return paths


def main() -> None:
    """Parse the command line and photograph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="as in _toc.yml, without the folder")
    parser.add_argument("--width", type=int, nargs="+", default=[1280, 390])
    parser.add_argument("--theme", nargs="+", default=["light", "dark"])
    parser.add_argument("--root", type=Path, default=ROOT)
    chosen = parser.parse_args()
    files = check_pages.pages(chosen.root, chosen.root / "_build" / "html")
    wanted = {k: v for k, v in files.items() if Path(k).name in chosen.pages}
    SCREENS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = browser.launch(playwright)
        for width in chosen.width:
            for theme in chosen.theme:
                for name, path in (wanted or files).items():
                    with browser.open_page(chromium, path, width, theme) as page:
                        browser.scroll_through(page)
                        label = f"{Path(name).name}-{width}-{theme}"
                        print(*take(page, label, SCREENS), sep="\n")
        chromium.close()


if __name__ == "__main__":
    main()
