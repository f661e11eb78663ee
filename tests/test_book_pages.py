"""Every page in a headless Chromium on `file://`, both themes, wide and narrow.

Each page is opened once for each theme and width. What it asks for beyond files, and
every error of a script, is collected all the while and judged by the last test.
"""

import os

import book_site
import browser
import pytest
from book_files import ROOT

from biglearn_lite.chapters import documents

pytestmark = pytest.mark.browser
VIEWS = [(width, theme) for width in (1280, 390) for theme in ("light", "dark")]
PAGES = [(name, *view) for name in documents(ROOT) for view in VIEWS]


@pytest.fixture(scope="module")
def chromium():
    if browser.find() is None:
        message = f"no Chromium: install one of {', '.join(browser.NAMES)}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = browser.launch(playwright)
        yield started
        started.close()


@pytest.fixture(
    scope="module",
    params=PAGES,
    ids=lambda p: f"{p[0].rpartition('/')[2]}-{p[1]}-{p[2]}",
)
def page(request, chromium):
    name, width, theme = request.param
    path = book_site.built() / f"{name}.html"
    with browser.open_page(chromium, path, width, theme) as opened:
        opened.set_default_timeout(15_000)
        yield opened


def test_theme_is_followed(page):
    colours = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('article p')).color]"
    )
    paper, ink = (
        sum(int(part) for part in colour[4:-1].split(",")) for colour in colours
    )
    assert (paper > ink) == (
        page.evaluate("document.documentElement.dataset.theme") == "light"
    )


def test_mathematics_is_typeset(page):
    page.wait_for_function(
        "() => [...document.querySelectorAll('.math')]"
        ".every(math => math.querySelector('mjx-container') || math.closest('pre'))"
    )
    assert not page.query_selector_all("mjx-merror")
    prose = page.inner_text("article")
    assert "\\(" not in prose
    assert "\\[" not in prose


def test_every_figure_is_drawn(page):
    browser.scroll_through(page)
    for figure in page.query_selector_all(".bl-plotly"):
        assert figure.get_attribute("aria-label") not in ("", "figure")
        assert figure.query_selector("svg")
        box = figure.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 100


def test_every_picture_is_loaded(page):
    widths = page.evaluate(
        "[...document.querySelectorAll('article img')].map(img => img.naturalWidth)"
    )
    assert all(widths)


def test_page_does_not_scroll_sideways(page):
    width = page.evaluate("document.scrollingElement.scrollWidth")
    assert width <= page.viewport_size["width"] + 1


def test_wide_page_shows_whole_lines(page):
    """On a phone an equation or a line of code may scroll, on a desk it may not."""
    if page.viewport_size["width"] < 1000:
        return
    cut = page.evaluate(
        """() => [...document.querySelectorAll(
             'article mjx-container[display], article .cell_input pre, '
             + 'article .cell_output .highlight-python pre, '
             + 'article .cell_output .bl-table pre')]
          .filter(box => box.scrollWidth > box.clientWidth + 1)
          .map(box => box.closest('.math')?.id || box.textContent.slice(0, 60))"""
    )
    assert cut == [], "break these lines"


def sliders(page):
    """Pairs of a slider and the figure it moves."""
    for box in page.query_selector_all(".bl-explore"):
        figure = box.evaluate_handle("box => box.nextElementSibling").as_element()
        for slider in box.query_selector_all("input[type=range]"):
            slider.scroll_into_view_if_needed()
            yield slider, figure


def picture(figure):
    return figure.query_selector(".bl-canvas").inner_html()


def wait_for_another(page, figure, frame):
    page.wait_for_function(
        "([figure, frame]) => figure.dataset.frame !== frame", arg=[figure, frame]
    )
    page.wait_for_timeout(50)


def drag(page, slider, share):
    """Take the thumb with the mouse and pull it to a share of the slider's length."""
    box = slider.bounding_box()
    at = slider.evaluate("s => (s.value - s.min) / (s.max - s.min)")
    thumb = 8  # half its width: the thumb's centre never reaches the ends
    place = [
        box["x"] + thumb + (box["width"] - 2 * thumb) * part for part in (at, share)
    ]
    height = box["y"] + box["height"] / 2
    page.mouse.move(place[0], height)
    page.mouse.down()
    page.mouse.move(place[1], height, steps=4)
    page.mouse.up()


def test_sliders_follow_the_mouse(page):
    for slider, figure in sliders(page):
        frame, before = figure.get_attribute("data-frame"), picture(figure)
        at = slider.evaluate("s => (s.value - s.min) / (s.max - s.min)")
        drag(page, slider, 0.2 if at > 0.5 else 0.8)
        wait_for_another(page, figure, frame)
        assert picture(figure) != before


def test_sliders_follow_the_keyboard(page):
    for slider, figure in sliders(page):
        start, before = slider.input_value(), picture(figure)
        late = slider.evaluate("s => s.value - s.min > s.max - s.value")
        slider.focus()
        # neighbours may look the same (a flat landscape does), far ends do not
        for key in ("ArrowLeft", "Home") if late else ("ArrowRight", "End"):
            frame, value = figure.get_attribute("data-frame"), slider.input_value()
            page.keyboard.press(key)
            assert slider.input_value() != value or key in ("Home", "End")
            if slider.input_value() != value:
                wait_for_another(page, figure, frame)
        assert picture(figure) != before
        frame = figure.get_attribute("data-frame")
        slider.fill(start)
        wait_for_another(page, figure, frame)


def widgets(page):
    """Every paint widget and its canvas."""
    count = len(page.query_selector_all('script[type*="widget-view"]'))
    page.wait_for_function(
        "n => document.querySelectorAll('.bl-paint').length === n", arg=count
    )
    for box in page.query_selector_all(".bl-paint"):
        canvas = box.query_selector("canvas")
        canvas.scroll_into_view_if_needed()
        yield box, canvas


def state(box):
    """What the readout says and what the canvas shows."""
    canvas = box.query_selector("canvas")
    return (
        box.query_selector(".bl-paint-readout").inner_text(),
        canvas.evaluate("canvas => canvas.toDataURL()"),
    )


def test_mouse_paints(page):
    for box, canvas in widgets(page):
        before = state(box)
        area = canvas.bounding_box()
        middle, step = area["y"] + area["height"] / 2, area["width"] / 8
        page.mouse.move(area["x"] + step, middle)
        page.mouse.down()
        page.mouse.move(area["x"] + 7 * step, middle, steps=12)
        page.mouse.up()
        said, shown = state(box)
        assert said != before[0]
        assert shown != before[1]


def test_keyboard_paints(page):
    for box, canvas in widgets(page):
        canvas.focus()
        seen = [state(box)]
        is_drawing = box.get_attribute("data-ink") is not None
        for key in (" ",) if is_drawing else ("s", "t", "a"):
            page.keyboard.press("ArrowRight")
            page.keyboard.press(key)
            seen.append(state(box))
        assert len({said for said, _ in seen}) > 1
        assert len({shown for _, shown in seen}) == len(seen)


def test_nothing_is_asked_of_the_network_and_no_script_fails(page):
    assert page.complaints == []
