"""Figures: rounding, frames with and without Python, paint, and the page's scripts."""

import base64
import itertools
import json

import lab
import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
import traitlets
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from plotly.subplots import make_subplots

from biglearn_lite import figures
from biglearn_lite._finish import round_array
from biglearn_lite._paint import Paint

AXIS = np.linspace(-2, 2, 40)
NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


@pytest.fixture
def static(monkeypatch):
    monkeypatch.setenv("BIGLEARN_STATIC", "1")


@pytest.fixture
def live(monkeypatch):
    monkeypatch.delenv("BIGLEARN_STATIC", raising=False)


def bump(angle, value):
    """A bump that moves with both sliders."""
    z = np.exp(-((AXIS[:, None] - angle) ** 2) - (AXIS - value) ** 2)
    return figures.heatmap(z, AXIS, AXIS, title=f"at {angle}", points={"top": [(0, 1)]})


def line(slope):
    """A line through the origin."""
    y = slope * AXIS
    return figures.curves(AXIS, {"line": y, "still": AXIS}, title="a line", yaxis="y")


def decoded(spec):
    """The numbers of plotly's typed array."""
    kinds = {"f4": "<f4", "u1": "u1"}
    shape = [int(n) for n in spec.get("shape", "-1").split(",")]
    raw = np.frombuffer(base64.b64decode(spec["bdata"]), dtype="u1")
    return raw.view(kinds[spec["dtype"]]).reshape(shape)


# ------------------------------------------------------------------------ rounding


@given(arrays(np.float64, array_shapes(max_dims=2, max_side=6), elements=NUMBERS))
def test_rounding_keeps_four_digits_of_the_scale(x):
    rounded, scale = round_array(x).astype(float), np.abs(x).max()
    assert rounded.dtype == np.float64
    assert rounded.shape == x.shape
    # half a unit of the fourth digit, and what float32 adds
    assert (np.abs(rounded - x) <= scale * 5.1e-4 + 1e-12).all()
    assert not np.signbit(rounded[rounded == 0]).any()
    assert len({f"{v:.5g}" for v in np.abs(rounded.ravel())}) <= 10_001


@given(arrays(np.float64, array_shapes(max_dims=2, max_side=6), elements=NUMBERS))
@example(np.array([9.99949999, 0.1235]))
@example(np.array([1e-12]))
@example(np.array([0.99955e-12]))
@example(np.array([9.9995, 0.1235]))
@example(np.array([0.99995, 0.01235]))
@example(np.array([9.9996, 0.1235]))
@example(np.array([1000.0, 0.45]))
def test_rounding_twice_is_rounding_once(x):
    once = round_array(x)
    assert round_array(once).tobytes() == once.tobytes()


@given(
    arrays(np.float64, 8, elements=st.integers(-40_000, 40_000).map(lambda k: k / 8))
)
def test_the_last_bits_of_a_processor_do_not_show(x):
    for nudge in (1 + 4e-16, 1 - 4e-16):  # ties like 0.125 included
        assert round_array(x * nudge).tobytes() == round_array(x).tobytes()


def test_rounding_by_hand():
    got = round_array([1234.56, 0.0499, -0.0501, -0.0, 1e-9, 99.95])
    np.testing.assert_array_equal(got, np.float32([1235, 0, 0, 0, 0, 100]))
    np.testing.assert_array_equal(
        round_array([0.5, -0.00005]), [0.5, np.float32(-1e-4)]
    )
    assert np.isnan(round_array([np.nan, np.inf, 1.0])[:2]).all()
    assert round_array([[0, 255]]).dtype == np.uint8
    assert round_array([-1, 300]).dtype == np.float32
    assert round_array([]).size == 0


def test_finish_rounds_everything_and_is_idempotent():
    marker = {"size": [1.0, 2.000001], "color": ["red", "blue"]}
    fig = go.Figure(go.Scatter(x=[0.1234567, 1.0], y=[None, 2], marker=marker))
    fig.add_annotation(x=0.333333333, y=1e-17, text="here")
    done = figures.finish(fig, alt="two\n points")
    spec = done.to_dict()
    assert done.layout.meta["alt"] == "two points"
    x = decoded(spec["data"][0]["x"])
    np.testing.assert_array_equal(x, np.float32([0.123, 1]))
    assert spec["data"][0]["marker"]["color"] == ["red", "blue"]
    assert spec["layout"]["annotations"][0]["x"] == 0.3333
    assert spec["layout"]["annotations"][0]["y"] == 0.0
    assert figures.finish(done).to_json() == done.to_json()
    assert spec["layout"]["template"]["layout"]["paper_bgcolor"] == "rgba(0,0,0,0)"


def test_a_figure_without_words_is_refused():
    with pytest.raises(ValueError, match="alternative text"):
        figures.finish(go.Figure())


# ------------------------------------------------------------------------ the plots


def test_heatmap_puts_values_where_they_belong():
    values = np.arange(6.0).reshape(3, 2)
    fig = figures.heatmap(values, [0, 1, 2], [5, 6], title="t", gamma=0.5)
    z = decoded(fig.to_dict()["data"][0]["z"])
    assert z.shape == (2, 3)  # plotly wants rows of y
    assert z[1, 2] == values[2, 1]
    stops = [stop for stop, _colour in fig.data[0].colorscale]
    assert stops[0] == 0
    assert stops[-1] == 1
    assert stops[3] == pytest.approx((3 / 9) ** 2, abs=1e-4)


def test_plots_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"'b' \(2,\)"):
        figures.curves([1, 2, 3], {"a": [1, 2, 3], "b": [1, 2]}, alt="x")
    with pytest.raises(ValueError, match=r"values has shape \(2, 3\)"):
        figures.heatmap(np.zeros((2, 3)), [1, 2, 3], [1, 2], alt="x")


def test_grid_tints_what_is_not_there():
    images = np.ones((3, 4, 4))
    images[1, :2] = np.nan
    fig = figures.grid(images, columns=2, titles="abc", alt="three")
    shown = [axis.get_images()[0].get_array() for axis in fig.axes[:3]]
    assert np.ptp(shown[1][0, 0]) > 0.1  # a colour
    assert np.ptp(shown[1][3, 3]) == 0  # grey
    assert not fig.axes[3].get_images()


def test_source_is_the_package_itself():
    whole = figures.source(figures.curves).data
    bare = figures.source(figures.curves, docstring=False).data
    assert whole.startswith("```python\ndef curves(")
    assert "Draw named curves" in whole
    assert "Draw named curves" not in bare
    assert bare.rstrip("`\n").endswith("return finish(fig, alt or title)")
    assert "@property" in figures.source(Paint.task.fget).data


# ---------------------------------------------------------------------- the sliders


def merged(fig, name):
    """The data of a frame as the page shows it."""
    spec = fig.to_dict()
    for frame in spec["frames"]:  # forget what any frame sets
        for k, changes in zip(frame["traces"], frame["data"], strict=True):
            spec["data"][k] = {
                key: v for key, v in spec["data"][k].items() if key not in changes
            }
        for key in frame.get("layout", {}):
            spec["layout"].pop(key, None)
    frame = next(f for f in spec["frames"] if f["name"] == name)
    for k, changes in zip(frame["traces"], frame["data"], strict=True):
        spec["data"][k] |= changes
    spec["layout"] |= frame.get("layout", {})
    return spec


def now_and_then(k):
    """A point with a note and a colour at even positions only."""
    fig = go.Figure(go.Scatter(x=[k], y=[0]))
    if k % 2 == 0:
        fig.update_traces(marker={"color": "red"})
        fig.add_annotation(x=k, y=0, text=f"note {k}")
    return figures.finish(fig, "a point")


def test_frames_and_live_show_the_same(static, monkeypatch):
    values = {"angle": [0, 0.5, 1], "value": [0, 1.25]}
    fig = figures.explore(bump, **values)
    assert [f.name for f in fig.frames] == ["0,0", "0,1", "1,0", "1,1", "2,0", "2,1"]
    monkeypatch.delenv("BIGLEARN_STATIC")
    box = figures.explore(bump, **values)
    *sliders, output = box.children
    for i in range(3):
        for j in range(2):
            sliders[0].value, sliders[1].value = i, j
            live = output.outputs[0]["data"][lab.PLOTLY]
            page = merged(fig, f"{i},{j}")
            assert live["data"] == page["data"]
            assert live["layout"]["title"] == page["layout"]["title"]


def test_what_a_frame_lacks_does_not_stay(static):
    fig = figures.explore(now_and_then, k=[0, 1, 2])
    pictures = [merged(fig, str(k)) for k in range(3)]
    assert ["annotations" in p["layout"] for p in pictures] == [True, False, True]
    assert ["marker" in p["data"][0] for p in pictures] == [True, False, True]


def test_frames_hold_only_what_changes(static):
    fig = figures.explore(line, slope=[-1, 2.5, 3])
    assert fig.layout.meta == {
        "alt": "A line through the origin.",
        "explore": {"names": ["slope"], "values": [["-1", "2.5", "3"]], "start": [0]},
    }
    spec = fig.to_dict()
    assert [set(t) for f in spec["frames"] for t in f["data"]] == [{"type", "y"}] * 3
    assert all(f["traces"] == [0] and not f.get("layout") for f in spec["frames"])
    titled = figures.explore(bump, angle=[0, 1], value=[0]).to_dict()
    assert [f["layout"]["title"]["text"] for f in titled["frames"]] == ["at 0", "at 1"]


def test_the_largest_explore_fits_in_a_notebook(static):
    fig = figures.explore(bump, angle=np.arange(10) / 5, value=[0, 1, 2, 3, 4, 5])
    bundle = {lab.PLOTLY: json.loads(fig.to_json())}
    output = nbformat.v4.new_output("display_data", data=bundle)
    cell = nbformat.v4.new_code_cell("explore()", outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    text = nbformat.writes(notebook)
    assert len(text) <= 1_000_000
    again = nbformat.reads(text, as_version=4)
    assert again.cells[0].outputs[0].data[lab.PLOTLY] == bundle[lab.PLOTLY]


def many_traces(n):
    """As many traces as the slider says."""
    return figures.curves([0, 1], {str(k): [0, k] for k in range(n)}, alt="x")


def wide(n):
    """A map with n columns."""
    return figures.heatmap(np.ones((n, 3)), range(n), range(3), alt="x")


def no_words(k):
    return line(k)


@pytest.mark.parametrize(
    ("function", "values", "rule"),
    [
        (line, {}, "one to three sliders, and got 0"),
        (line, {"a": [1], "b": [1], "c": [1], "d": [1]}, "and got 4"),
        (line, {"slope": []}, "'slope' has no values"),
        (line, {"slope": range(61)}, "make 61"),
        (line, {"slope": 3}, "sequence of values, and got 3"),
        (no_words, {"k": [1]}, "docstring"),
        (wide, {"n": [41]}, "at most 40 x 40"),
        (lambda k: None, {"k": [1]}, "docstring"),
    ],
)
@pytest.mark.parametrize("mode", ["static", "live"])
def test_explore_says_what_is_wrong(mode, function, values, rule, request):
    request.getfixturevalue(mode)
    with pytest.raises(ValueError, match=rule):
        figures.explore(function, **values)


def test_every_frame_needs_the_same_traces(static):
    with pytest.raises(ValueError, match="empty trace"):
        figures.explore(many_traces, n=[1, 2])


def test_every_frame_needs_the_same_traces_live(live):
    slider, output = figures.explore(many_traces, n=[1, 2]).children
    slider.value = 1
    assert "empty trace" in output.outputs[0]["evalue"]


def test_what_is_not_a_figure_is_refused(static):
    def words(k):
        """Words."""
        return "no figure"

    with pytest.raises(ValueError, match="got str"):
        figures.explore(words, k=[1])


def breaks_at(k):
    """A line that breaks on the way."""
    if k == 0 or k == 2:
        raise ZeroDivisionError(f"no line at {k}")
    return line(k)


def test_a_broken_callback_is_an_error(static):
    with pytest.raises(ZeroDivisionError):
        figures.explore(breaks_at, k=[1, 2])


def test_a_broken_callback_is_an_error_live(live):
    with pytest.raises(ZeroDivisionError):
        figures.explore(breaks_at, k=[0, 1])
    slider, output = figures.explore(breaks_at, k=[1, 2, 3]).children
    slider.value = 1
    assert output.outputs[0]["evalue"] == "no line at 2"
    slider.value = 2
    assert lab.PLOTLY in output.outputs[0]["data"]


# ----------------------------------------------------------------------------- paint


def test_paint_says_its_task():
    widget = figures.paint(np.zeros((8, 8)), 2, 2, source=[0], target=[1, 3])
    assert widget.roles == [1, 2, 0, 2]
    task = widget.task
    assert task.source.tolist() == [[True, False, False, False]]
    assert task.target.tolist() == [[False, True, False, True]]
    assert task.kind == ["conditional"]
    widget.roles = [1, 1, 0, 0]
    assert widget.task is None
    assert repr(widget) == "paint: tasks painted on 2 x 2 cells"
    for roles in ([1, 2], [0, 1, 2, 3]):
        with pytest.raises(traitlets.TraitError, match="one a patch"):
            widget.roles = roles


def test_respond_answers_and_never_fails_in_silence():
    def respond(task):
        if task.source.all(dim=1).any() or task.target.sum() == 3:
            raise KeyError("three")
        return f"{int(task.target.sum())} asked for"

    widget = figures.paint(np.zeros((4, 4)), 2, 2, target=[1], respond=respond)
    assert widget.message == "1 asked for"
    widget.roles = [2, 2, 1, 1]
    assert widget.message == "2 asked for"
    widget.roles = [2, 2, 2, 1]
    assert widget.message == "respond failed: KeyError: 'three'"
    widget.roles = [0, 0, 0, 1]
    assert widget.message == ""
    with pytest.raises(KeyError):
        figures.paint(np.zeros((4, 4)), 2, 2, target=[0, 1, 2], respond=respond)


def test_a_drawing_reaches_python():
    seen = []
    widget = figures.paint(
        None, 2, 3, drawing=True, respond=lambda x: str(seen.append(x))
    )
    assert widget.task is None
    widget.pixels = "00ff0a000001"
    np.testing.assert_array_equal(widget.drawing, [[0, 255, 10], [0, 0, 1]])
    np.testing.assert_array_equal(seen[-1], widget.drawing)


def test_images_of_every_kind():
    import torch

    grey = np.linspace(0, 1, 16).reshape(4, 4)
    for image in (grey, torch.tensor(grey), grey.astype(np.float32)):
        assert figures.paint(image, 2, 2).image == bytes(range(0, 256, 17))
    colour = np.zeros((4, 6, 3), dtype=np.uint8)
    assert figures.paint(colour, 2, 3).shape == [4, 6, 3]


@pytest.mark.parametrize(
    ("image", "grid", "roles", "rule"),
    [
        (np.zeros((8, 8)), (3, 4), {}, "does not divide"),
        (np.zeros((8, 8)), (0, 4), {}, "0 x 4"),
        (np.zeros((2, 8, 8)), (2, 2), {}, "shape"),
        (np.zeros((0, 0)), (2, 2), {}, "shape"),
        (np.full((4, 4), -1.0), (2, 2), {}, "-1.0 to -1.0"),
        (np.full((4, 4), 256), (2, 2), {}, "256"),
        (np.full((4, 4), np.nan), (2, 2), {}, "rescale"),
        (np.zeros((4, 4)), (2, 2), {"source": [4]}, "patch 4, which is outside"),
        (np.zeros((4, 4)), (2, 2), {"source": [1], "target": [1]}, "has a role"),
    ],
)
def test_paint_says_what_is_wrong(image, grid, roles, rule):
    with pytest.raises(ValueError, match=rule):
        figures.paint(image, *grid, **roles)


# ------------------------------------------------------------- in the page, no Python


@pytest.fixture(scope="module")
def window():
    with lab.chromium() as opened:
        yield opened


@pytest.mark.browser
def test_paint_computes_by_itself(window, tmp_path):
    script = (lab.ROOT / "biglearn_lite" / "paint.js").read_text()
    with lab.browser.open_page(window, lab.tiny_page(tmp_path)) as page:
        found = page.evaluate(
            """async source => {
              const blob = new Blob([source], {type: "text/javascript"});
              const m = await import(URL.createObjectURL(blob));
              return {
                kinds: [[2, 2], [2, 0], [1, 2], [1, 2, 0], [1, 1], [0]].map(m.kindOf),
                counts: [0, 1, 2, 4, 16, 196].map(u => m.countTasks(u).toString()),
                said: [12n, 1234567n, 999999999999n, 3n ** 196n, 9999999n * 10n ** 9n]
                  .map(m.sayNumber),
                words: [[2, 2], [2, 0, 0], [1, 2], [0, 1]].map(m.sayTask),
                tasks: [[2, 0], [0, 0], [1, 2]].map(m.sayCount),
              };
            }""",
            script,
        )
        assert not page.complaints
    assert (
        found["kinds"]
        == ["joint", "marginal", *["conditional"] * 2] + ["not a task yet"] * 2
    )
    counts = [3**u - 2**u for u in (0, 1, 2, 4, 16, 196)]
    assert list(map(int, found["counts"])) == counts
    assert found["said"] == [
        "12",
        "1,234,567",
        "999,999,999,999",
        f"about {3**196 / 10**93:.2f} × 10^93",
        "about 1.00 × 10^16",
    ]
    assert found["words"] == [
        "Generate all 2 patches from nothing.",
        "Generate 1 patch from nothing. The 2 patches that are absent need not exist.",
        "Complete 1 patch from the 1 patch given.",
        "Nothing is asked for: paint at least one target.",
    ]
    assert found["tasks"] == [
        "A sample that shows exactly this 1 patch demonstrates 3^1 − 2^1 = 1 task.",
        "A sample that shows nothing demonstrates no task.",
        "A sample that shows exactly these 2 patches demonstrates 3^2 − 2^2 = 5 tasks.",
    ]


@pytest.mark.browser
def test_paint_on_a_static_page(window, tmp_path):
    widget = figures.paint(np.eye(8), 4, 4, source=[0], target=[5], respond=str)
    drawing = figures.paint(None, 6, 6, drawing=True)
    names = [widget.model_id, drawing.model_id]
    page_file = lab.tiny_page(tmp_path, (), names, lab.widget_state(widget, drawing))
    with lab.browser.open_page(window, page_file, width=390) as page:
        page.wait_for_selector(".bl-paint >> nth=1")
        box = page.locator(".bl-paint").first
        canvas = box.locator("canvas")
        assert box.get_attribute("data-roles") == "1000020000000000"
        page.click("text=target: asked for")
        area = canvas.bounding_box()
        step = area["width"] / 4
        page.mouse.move(area["x"] + step / 2, area["y"] + step / 2)
        page.mouse.down()
        page.mouse.move(area["x"] + 3.5 * step, area["y"] + step / 2, steps=9)
        page.mouse.up()
        assert box.get_attribute("data-roles") == "2222020000000000"
        assert box.get_attribute("data-kind") == "marginal"
        assert "in Jupyter" in box.locator(".bl-paint-message").inner_text()
        canvas.focus()
        for key in ("ArrowUp", "ArrowDown", "s", "ArrowDown", "a", " ", "ArrowRight"):
            page.keyboard.press(key)  # the cursor stops at the right edge
        assert box.get_attribute("data-roles") == "2222020100020000"
        assert box.get_attribute("data-count") == str(3**7 - 2**7)
        assert "column 4: target" in box.locator(".bl-paint-where").inner_text()
        second = page.locator(".bl-paint").nth(1)
        second.locator("canvas").focus()
        page.keyboard.press(" ")
        assert second.get_attribute("data-ink") == "3"
        page.keyboard.press("Delete")
        assert second.get_attribute("data-ink") == "0"
        assert not page.complaints


LOGGER = """
export default {
  initialize({ model }) { model.started = true; },
  render({ model, el }) {
    const log = [];
    const one = () => log.push(`n ${model.get("n")}`);
    model.on("change:n", one);
    model.on("change", () => log.push("any"));
    model.set("n", 2);
    model.set("n", 2);
    model.save_changes();
    model.off("change:n", one);
    model.set("n", 3);
    const raw = new Uint8Array(model.get("raw").buffer);
    el.append([model.started, ...raw, ...log].join());
  },
};"""


@pytest.mark.browser
def test_saved_widgets_find_what_they_ask_for(window, tmp_path):
    raw = base64.b64encode(bytes([7, 0, 255])).decode()
    anywidget = {
        "model_module": "anywidget",
        "model_name": "AnyModel",
        "state": {"_esm": LOGGER, "_css": "p {}", "n": 1},
        "buffers": [{"path": ["raw"], "data": raw, "encoding": "base64"}],
    }
    plain = {"model_module": "@jupyter-widgets/controls", "state": {}}
    state = {"state": {"a": anywidget, "b": plain}}
    path = lab.tiny_page(tmp_path, (), ["a", "b", "lost"], state)
    with lab.browser.open_page(window, path) as page:
        page.wait_for_selector(".bl-widget[data-drawn]")
        found = page.locator("div.bl-widget").all_inner_texts()
        assert found[0] == "true,7,0,255,n 2,any,any"
        assert all("run this chapter in Jupyter" in text for text in found[1:])
        assert len(found) == 3
        assert not page.complaints


@pytest.mark.browser
def test_sliders_of_a_static_page_combine(window, tmp_path, static):
    figs = [
        figures.explore(bump, angle=[0, 0.5, 1], value=[0, 1, 1.5]),
        figures.explore(line, slope=[1, 2]),
        figures.curves([0, 1], {"plain": [0, 1]}, alt="plain"),
        figures.explore(now_and_then, k=[0, 1, 2]),
    ]
    with lab.browser.open_page(window, lab.tiny_page(tmp_path, figs)) as page:
        lab.browser.scroll_through(page)
        first = page.locator(".bl-plotly").first
        inputs = page.locator(".bl-explore").first.locator("input[type=range]")
        assert inputs.count() == 2
        before = first.screenshot()
        inputs.nth(0).focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_selector('.bl-plotly[data-frame="1,0"]')
        area = inputs.nth(1).bounding_box()
        page.mouse.move(area["x"] + 5, area["y"] + area["height"] / 2)
        page.mouse.down()
        page.mouse.move(area["x"] + area["width"], area["y"] + 5, steps=5)
        page.mouse.up()
        page.wait_for_selector('.bl-plotly[data-frame="1,2"]')
        assert inputs.nth(1).get_attribute("aria-valuetext") == "value 1.5"
        assert first.locator(".bl-title").inner_text() == "at 0.5"
        z = page.evaluate("document.querySelector('.bl-canvas').data[0].z.bdata")
        assert z == merged(figs[0], "1,2")["data"][0]["z"]["bdata"]
        assert first.screenshot() != before
        page.locator(".bl-explore").last.locator("input").focus()
        for index, notes in ((1, 0), (2, 1), (1, 0), (0, 1)):
            page.keyboard.press("Home")
            for _ in range(index):
                page.keyboard.press("ArrowRight")
            point = page.locator(f'.bl-plotly[data-frame="{index}"]').last
            point.wait_for()
            assert point.locator(".annotation").count() == notes
        colour = "getComputedStyle(document.querySelector('.xtick text')).fill"
        light = page.evaluate(colour)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.wait_for_function(f"{colour} !== '{light}'")
        assert not page.complaints


def _rows(heights, gap=10):
    """Rows of things at these heights: a few pixels apart is the same row."""
    heights = sorted(heights)
    return 1 + sum(b - a > gap for a, b in itertools.pairwise(heights))


@pytest.mark.browser
@pytest.mark.parametrize(("width", "rows"), [(1280, 1), (390, 2)])
def test_panels_go_below_each_other_on_a_phone(window, tmp_path, width, rows):
    fig = make_subplots(1, 2, subplot_titles=["left", "right"])
    for column in (1, 2):
        fig.add_scatter(x=[0, 1], y=[column, 0], row=1, col=column)
    path = lab.tiny_page(tmp_path, [figures.finish(fig, "two panels")])
    with lab.browser.open_page(window, path, width=width) as page:
        lab.browser.scroll_through(page)
        boxes = [b.bounding_box() for b in page.locator(".cartesianlayer .bg").all()]
        boxes = boxes or [b.bounding_box() for b in page.locator(".nsewdrag").all()]
        titles = [t.bounding_box()["y"] for t in page.locator(".annotation").all()]
        assert _rows([box["y"] for box in boxes]) == rows
        assert _rows(titles) == rows
        assert sum(box["width"] for box in boxes) > rows * 0.6 * min(width, 390)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert not page.complaints
