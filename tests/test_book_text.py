"""The prose and the cells of the chapters keep the book's rules."""

import re
import statistics

import pytest
from book_files import BOOK, cells, chapters

CHAPTERS = chapters()
PAGES = [*CHAPTERS, *sorted(BOOK.glob("*.md"))]
# words with a digit that are names, not measurements
ALLOWED = r"\b[123]-D\b|arXiv:?\s?\d{4}\.\d{5}|\b(?:19|20)\d\d\b"
NOT_PROSE = [
    r"```\{math\}.*?```",
    r"```\{(?:exercise|solution)-(?:start|end)\}.*?```",
    r"^:(?:label|class|name|tags):.*?$",
    r"^\((?:[\w-]+)\)=$",
    r"\$\$.*?\$\$",
    r"\$[^$]+\$",
    r"\{[\w:]+\}`[^`]*`",
    r"`[^`]*`",
    r"\]\([^)]*\)",
    r"^\s*```.*?$",
    r"^\s*\d+\.\s",  # an ordered list
]


def prose(text):
    for pattern in NOT_PROSE:
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(ALLOWED, " ", text)


def markdown(path):
    if path.suffix == ".md":
        return path.read_text()
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


def test_there_are_chapters():
    assert len(CHAPTERS) >= 4


@named(PAGES)
def test_no_numerals_in_prose(path):
    """Measured numbers are printed by claims; text cannot drift from them."""
    found = re.findall(r"[^\n]*\d[^\n]*", prose(markdown(path)))
    assert not found, f"numerals in the prose of {path.name}: {found}"


def test_numerals_are_found():
    assert re.search(r"\d", prose("It reached 97 percent."))
    assert not re.search(r"\d", prose("In 2-D, $x_1 = 3$ and `f(2)` of 2024."))


@named(CHAPTERS)
def test_length_of_the_text(path):
    words = len(prose(markdown(path)).split())
    low = 800 if path.stem == "intro" else 1300
    assert low <= words <= 2800, f"{path.name} has {words} words"


@named(CHAPTERS)
def test_code_cells_are_short(path):
    code = [cell.source for cell in cells(path, "code")]
    lines = [[line for line in text.splitlines() if line.strip()] for text in code]
    sizes = sorted(len(text) for text in lines)
    assert statistics.median(sizes) <= 8, f"median of {sizes}"
    assert sizes[int(0.9 * (len(sizes) - 1))] <= 25, f"nine tenths of {sizes}"
    wide = [line for text in lines for line in text if len(line) > 79]
    assert not wide, f"lines that scroll on the page: {wide}"


@named(CHAPTERS)
def test_frame_of_a_chapter(path):
    text = markdown(path)
    code = "\n".join(cell.source for cell in cells(path, "code"))
    assert text.lstrip().startswith("# "), "a chapter begins with its title"
    assert "you will learn" in text.lower()
    assert "{math}" in text, "the mathematics is numbered"
    assert text.count("{exercise-start}") == text.count("{solution-start}") >= 2
    assert text.count(":class: dropdown") >= text.count("{solution-start}")
    assert "{cite" in text, "references are given"
    assert "figures.explore(" in code or "figures.paint(" in code, "nothing to drag"
    assert code.count("claim(") >= 5
    assert code.count("check(") >= 2


@named(CHAPTERS)
def test_cells_that_break_nbval_or_the_page(path):
    for cell in cells(path, "code"):
        last = cell.source.rstrip().splitlines()[-1] if cell.source.strip() else ""
        assert not last.endswith(";"), f"a trailing semicolon breaks nbval: {last}"
        assert "clear_output" not in cell.source, "clear_output breaks nbval"
        assert "glue(" not in cell.source, "numbers are printed by claims, not glued"
        assert "manual_seed_all" not in cell.source
        assert not re.search(r"\b(torch|np\.random)\.(manual_)?seed\(", cell.source)


@named(CHAPTERS)
def test_pictures_have_alternative_text(path):
    for cell in cells(path, "code"):
        mimes = [m for o in cell.outputs for m in o.get("data", {})]
        if "image/png" in mimes:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
            assert alt, f"a picture without alternative text: {cell.source[:60]!r}"
        for output in cell.outputs:
            figure = output.get("data", {}).get("application/vnd.plotly.v1+json")
            if figure:
                meta = figure["layout"].get("meta") or {}
                assert meta.get("alt"), f"no alternative text: {cell.source[:60]!r}"
