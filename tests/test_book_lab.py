"""The live chapters: JupyterLab runs them, a mouse drags, pictures change."""

import json
import re
import shutil
import time

import lab
import nbformat
import pytest
from book_files import BOOK

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

TINY = '''\
import numpy as np
from biglearn_lite import figures
x = np.linspace(-2, 2, 20)
def bump(angle, height):
    """A bump."""
    z = height * np.exp(-(x[:, None] - angle) ** 2 - x ** 2)
    return figures.heatmap(z, x, x, title=f"at {angle}", zmax=3)
---
figures.explore(bump, angle=[-1, 0, 1.5], height=[1, 2, 3])
---
def count(task):
    return f"{int(task.target.sum())} asked for"
widget = figures.paint(np.eye(8), 4, 4, target=[15], respond=count)
widget
---
figures.paint(None, 8, 8, drawing=True)
'''
# run again after painting: what the kernel knows of each Paint
SEEN = """\
import json
from ipywidgets.widgets.widget import _instances
print("SEEN", json.dumps([
    w.pixels if w.is_drawing else "".join(map(str, w.roles))
    for w in list(_instances.values()) if type(w).__name__ == "Paint"
]))"""
LIVE = re.compile(r"\b(?:explore|paint)\(")


def calls(path):
    """How often the code cells of a notebook call explore and paint."""
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return {
        name: len(re.findall(rf"\b{name}\(", code)) for name in ("explore", "paint")
    }


INTERACTIVE = [p.stem for p in sorted(BOOK.glob("*.ipynb")) if any(calls(p).values())]


def copy_with_witness(path, target):
    """Copy a notebook without outputs; its last cell says what the kernel saw."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("widgets", None)
    notebook.cells.append(nbformat.v4.new_code_cell(SEEN))
    nbformat.write(notebook, target)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    """JupyterLab on a copy of the book, and a browser."""
    with lab.chromium() as window:
        folder = tmp_path_factory.mktemp("lab")
        book = folder / "book"
        shutil.copytree(BOOK, book, ignore=shutil.ignore_patterns("*.ipynb", ".*"))
        tiny = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(s.strip()) for s in TINY.split("---\n")],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(tiny, folder / "tiny.ipynb")
        copy_with_witness(folder / "tiny.ipynb", book / "tiny.ipynb")
        for name in INTERACTIVE:
            copy_with_witness(BOOK / f"{name}.ipynb", book / f"{name}.ipynb")
        with lab.lab_server(folder) as address:
            yield address, book, window


def centre(locator):
    """Scroll there and return where it is; a redraw in between doesn't matter."""
    locator.evaluate("el => el.scrollIntoView({block: 'center', behavior: 'instant'})")
    return locator.bounding_box()


def picture(page, locator):
    """What the window shows at the element, once two looks agree."""
    page.mouse.move(2, 2)
    before, deadline = None, time.monotonic() + 20
    while time.monotonic() < deadline:
        now = page.screenshot(clip=centre(locator))
        if now == before and locator.locator(".main-svg").count():
            return now
        before = now
        time.sleep(0.2)
    raise AssertionError("the picture does not come to rest")


def drag(page, slider, share):
    """Drag a slider's handle to a share of its track."""
    bar = centre(slider.locator(".noUi-target"))
    at = slider.locator(".noUi-handle").bounding_box()
    y = at["y"] + at["height"] / 2
    page.mouse.move(at["x"] + at["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(bar["x"] + bar["width"] * share, y, steps=3)
    page.mouse.up()


def drag_every_slider(page, box):
    """Move each slider of one `explore`: its readout and the picture change."""
    output = box.locator(".widget-output")
    box.locator(".js-plotly-plot").first.wait_for(timeout=30_000)
    sliders = box.locator(".widget-slider")
    for k in range(sliders.count()):
        readout = sliders.nth(k).locator(".widget-readout")
        before, value = picture(page, output), readout.inner_text()
        drag(page, sliders.nth(k), 0.97)
        assert readout.inner_text() != value, f"slider {k} did not move"
        deadline = time.monotonic() + 30
        while picture(page, output) == before:
            said = f"slider {k}, now {readout.inner_text()}, left the picture as it was"
            assert time.monotonic() < deadline, said
    return sliders.count()


def paint_somewhere(page, box):
    """Paint a stroke: the roles (or the drawing) and the readout change."""
    canvas = box.locator("canvas")
    state = "el => el.dataset.roles ?? el.dataset.ink"
    before, said = box.evaluate(state), box.locator(".bl-paint-readout").inner_text()
    buttons = box.locator(".bl-paint-brush")
    roles = before if len(before) > 2 else ""
    # a brush that changes the first patch, whatever it is
    buttons.nth(1 if roles.startswith("1") else 0).click()
    area = centre(canvas)
    page.mouse.move(area["x"] + 6, area["y"] + 6)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.6, area["y"] + 6, steps=6)
    page.mouse.up()
    now = box.evaluate(state)
    assert now != before, "painting changed nothing"
    assert box.locator(".bl-paint-readout").inner_text() != said
    return now


def seen_by_python(page):
    """Run the last cell again and return what it prints."""
    cell = page.locator(".jp-NotebookPanel:visible .jp-CodeCell").last
    cell.scroll_into_view_if_needed()
    count = cell.locator(".jp-InputPrompt").first.inner_text()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function(
        """([old]) => {
          const cells = document.querySelectorAll('.jp-CodeCell');
          const prompt = cells[cells.length - 1].querySelector('.jp-InputPrompt');
          return /\\[\\d+\\]/.test(prompt.innerText) && prompt.innerText !== old;
        }""",
        arg=[count],
        timeout=30_000,
    )
    text = cell.locator(".jp-OutputArea-output").last.inner_text()
    return json.loads(text.split("SEEN", 1)[1])


@pytest.mark.parametrize("name", ["tiny", *INTERACTIVE])
def test_chapter_is_alive(laboratory, name):
    address, book, window = laboratory
    wanted = calls(book / f"{name}.ipynb")
    page = window.new_page(viewport={"width": 1280, "height": 1000})
    try:
        lab.open_notebook(page, address, f"book/{name}.ipynb")
        lab.run_all(page)
        lab.wait_until_run(page)
        boxes = page.locator(".widget-vbox:has(.widget-slider)")
        assert boxes.count() >= min(wanted["explore"], 1)
        for k in range(boxes.count()):
            assert drag_every_slider(page, boxes.nth(k)) >= 1
        paints = page.locator(".bl-paint")
        assert paints.count() >= min(wanted["paint"], 1)
        roles = [paint_somewhere(page, paints.nth(k)) for k in range(paints.count())]
        if roles:
            seen = seen_by_python(page)
            for painted in roles:
                ink = [str(len(re.findall("(?!00)..", s))) for s in seen]
                assert painted in [*seen, *ink], "Python did not see what was painted"
        assert not page.locator("text=Traceback (most recent call").count()
    finally:
        page.close()


def test_a_live_page_answers(laboratory):
    """What only Python can say follows the brush."""
    address, _book, window = laboratory
    page = window.new_page(viewport={"width": 1280, "height": 1000})
    try:
        lab.open_notebook(page, address, "book/tiny.ipynb")
        lab.run_all(page)
        lab.wait_until_run(page)
        box = page.locator(".bl-paint").first
        assert box.locator(".bl-paint-message").inner_text() == "1 asked for"
        box.locator("canvas").scroll_into_view_if_needed()
        box.locator("canvas").focus()
        page.keyboard.press("t")
        box.locator("text=2 asked for").wait_for(timeout=10_000)
    finally:
        page.close()
