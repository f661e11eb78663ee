"""The rendered book: complete, self-contained, and a broken one is noticed."""

import json
import re
import shutil
import subprocess
import sys
from html import unescape

import book_records
import book_site
import check_pages
import printed_tables
import pytest
import requirements
import vendor_assets
from book_site import ROOT


@pytest.fixture(scope="module")
def html():
    return book_site.built()


def text_of(html, document):
    return (html / f"{document}.html").read_text("utf8")


# ---- the book as it is


def test_pages_are_complete_and_self_contained(html):
    assert check_pages.problems(ROOT, html) == []


def test_index_leads_to_the_introduction(html):
    root = book_records.documents(ROOT)[0]
    assert f"url={root}.html" in (html / "index.html").read_text("utf8")


def test_every_chapter_says_what_it_needs(html):
    for chapter in book_records.chapters(ROOT):
        page = text_of(html, chapter.document)
        assert page.count("What you need") == 1, chapter.document
        for name in chapter.datasets:
            box = page[page.index("bl-need") :][:3000]
            assert name in box, f"{chapter.document} reads {name}"


def test_introduction_lists_every_chapter(html):
    page = text_of(html, book_records.documents(ROOT)[0])
    table = page[page.index("bl-chapters") :]
    for chapter in book_records.chapters(ROOT):
        assert f'href="{chapter.slug}.html"' in table
        assert chapter.about, f"{chapter.document} has no first sentence"


def test_status_shows_every_claim_of_the_ledger(html):
    def letters(text):  # the page has other quotation marks
        return re.sub(r"[\W_]+", "", unescape(text))

    page = letters(re.sub(r"<[^>]+>", "", text_of(html, "book/status")))
    for claims in book_records.read_ledger(ROOT)["claims"].values():
        for name in claims:
            assert letters(name) in page, name


def test_api_pages_document_every_public_name(html):
    import biglearn_lite

    page = text_of(html, "book/api")
    anchors = set(re.findall(r'id="biglearn_lite\.([\w.]+)"', page))
    documented = {name.rpartition(".")[2] for name in anchors}
    missing = set(biglearn_lite.__all__) - set(biglearn_lite._MODULES) - documented
    assert not missing
    for module in biglearn_lite._MODULES:
        assert f"module-biglearn_lite.{module}" in page


# ---- a broken book is noticed


def write_book(root, markdown, cells=()):
    """A book of one page; its build is imitated by hand in the tests below."""
    notebook = {"cells": list(cells), "metadata": {}, "nbformat": 4}
    (root / "book").mkdir(parents=True)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/intro\n")
    (root / "book" / "intro.ipynb").write_text(json.dumps(notebook))
    page = root / "html" / "book" / "intro.html"
    page.parent.mkdir(parents=True)
    page.write_text(f"<html><body>{markdown}</body></html>")
    (root / "html" / "index.html").write_text("")
    return check_pages.problems(root, root / "html")


def cell(output, **metadata):
    return {
        "cell_type": "code",
        "source": "",
        "metadata": metadata,
        "outputs": [output],
    }


def shows(mime):
    return {"output_type": "display_data", "data": {mime: {}}, "metadata": {}}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "from the network"),
        ('<img src="//example/x.png" alt="a">', "from the network"),
        ('<link rel="stylesheet" href="nowhere.css">', "does not exist"),
        ('<img src="data:," alt="">', "without alternative text"),
        ('<img src="data:," alt="../_images/1.png">', "without alternative text"),
        ("<p>see {eq}`joint`</p>", "raw directive"),
        ("<p>:::{note}</p>", "raw directive"),
        (f"<p>{'x' * 1_600_000}</p>", "limit"),
    ],
)
def test_broken_page_is_noticed(tmp_path, body, complaint):
    (found,) = write_book(tmp_path, body)
    assert complaint in found


def test_path_of_this_machine_is_noticed(tmp_path):
    (found,) = write_book(tmp_path, f"<p>{tmp_path}</p>")
    assert "path of the machine" in found


def test_code_and_mathematics_may_look_like_directives(tmp_path):
    body = "<pre>```{note}</pre><code>{eq}`x`</code><div class='math'>{a}`</div>"
    assert write_book(tmp_path, body) == []


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        (shows(check_pages.PLOTLY), "1 plotly outputs, but 0 figures"),
        (shows(check_pages.WIDGET), "1 widgets, but 0 on the page"),
        ({"output_type": "error", "ename": "KeyError"}, "error output: KeyError"),
        ({"output_type": "stream", "name": "stderr", "text": "!"}, "stderr output"),
    ],
)
def test_lost_or_wrong_output_is_noticed(tmp_path, output, complaint):
    found = write_book(tmp_path, "", [cell(output)])
    assert any(complaint in line for line in found)


def test_output_removed_on_purpose_is_not_lost(tmp_path):
    output = cell(shows(check_pages.PLOTLY), tags=["remove-output"])
    assert write_book(tmp_path, "", [output]) == []


def test_page_that_was_not_written_is_noticed(tmp_path):
    write_book(tmp_path, "")
    shutil.rmtree(tmp_path / "html")
    found = check_pages.problems(tmp_path, tmp_path / "html")
    assert [line for line in found if "was not written" in line] == found
    assert len(found) == 2


def test_build_fails_on_a_warning(tmp_path, html):
    for name in ("_assets", "_ext", "_vendor", "tools", "biglearn_lite"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/intro\n")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "references.bib").write_text("")
    (tmp_path / "book" / "intro.md").write_text("# Page\n\nSee {ref}`nowhere`.\n")
    command = [sys.executable, "tools/build_book.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "nowhere" in done.stderr


@pytest.mark.parametrize("works", [True, False])
def test_a_plain_build_fetches_what_is_missing(tmp_path, works):
    from offline_assets import ExtensionError, fetch_vendor

    tool = "open('filled', 'w').close()" if works else "raise SystemExit(1)"
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "vendor_assets.py").write_text(
        f"import os; os.chdir({str(tmp_path)!r}); {tool}"
    )
    if works:
        fetch_vendor(tmp_path)
        assert (tmp_path / "filled").exists()
    else:
        with pytest.raises(ExtensionError, match="could not be filled"):
            fetch_vendor(tmp_path)


# ---- the pieces


def test_figure_cannot_end_its_script():
    from plotly_figures import embed

    figure = {
        "data": [{"name": "</script><b>"}],
        "layout": {"title": {"text": 'a "curve"'}},
        "config": {"plotlyServerURL": "https://plotly.com"},
    }
    page = embed(figure)
    assert page.count("</script>") == 1
    assert 'aria-label="a &quot;curve&quot;"' in page
    assert "plotly.com" not in page
    body = re.search(r'json">(.*?)</script>', page)[1]
    assert json.loads(body)["data"] == figure["data"]


@pytest.mark.parametrize(
    ("layout", "alt"),
    [
        ({"meta": {"alt": "words"}, "title": {"text": "title"}}, "words"),
        ({"meta": {}, "title": {"text": "title"}}, "title"),
        ({"title": "title"}, "title"),
        ({}, "figure"),
    ],
)
def test_figure_has_words(layout, alt):
    from plotly_figures import alternative_text

    assert alternative_text({"layout": layout}) == alt


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("name     mean\nbig     1.984\ngpt     2.164", [True]),
        ("one  two", [False]),
        ("Two sentences.\nNo  table.\nOne line in three.", [False]),
        ("holds: a  is 1\nholds: b  is 2", [False]),
        ("a   1\nb   2\nholds: The sum is 3\nThe end.", [True, False, False]),
        ("tensor([[1, 2],\n        [3, 4]])", [False]),
        (f"a  {'b' * 77}\nc  d", [False]),  # too wide for a desk
        (f"a  {'b' * 76}\nc  d", [True]),
    ],
)
def test_printed_tables_are_told_from_sentences(text, tables):
    parts = printed_tables.split(text)
    assert [table for _, table in parts] == tables
    assert "\n".join(part for part, _ in parts) == text


def test_a_printed_table_has_a_box_of_its_own(html):
    page = text_of(html, "book/incomplete-data")
    boxes = re.findall(r'class="[^"]*bl-table[^"]*".*?</pre>', page, re.DOTALL)
    assert any("mean imputation" in box for box in boxes)
    assert not any("holds:" in box for box in boxes)


def test_first_sentence_is_prose():
    markdown = """# Title

```{note}
Not this. Nor this.
```

- A list is not a sentence.

Tokens are e.g. pixels $x.y$ of an image. The rest follows.
"""
    assert (
        book_records.first_sentence(markdown)
        == "Tokens are e.g. pixels $x.y$ of an image."
    )


def test_promises_of_a_chapter_become_a_sentence():
    markdown = """**What you will learn**

- how a task
  is made;
- the rule $3^L$,
- not shown

# Next

- not this
"""
    found = book_records.promises(markdown)
    assert found == "how a task is made; the rule $3^L$."
    assert book_records.promises("# Title") == ""


def test_nothing_measured_yet_is_no_error(tmp_path):
    assert book_records.read_ledger(tmp_path) == {"claims": {}, "chapters": {}}
    assert book_records.read_runs(tmp_path) == []


def test_runs_are_read_from_their_provenance(tmp_path):
    path = tmp_path / "book" / "runs" / "digits" / "cpu" / "provenance.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"device": "a laptop"}')
    (run,) = book_records.read_runs(tmp_path)
    assert run == {"device": "a laptop", "recipe": "digits", "profile": "cpu"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.693147, "0.6931"), (True, "True"), (42981185, "42981185"), (2e-17, "2e-17")],
)
def test_measured_values_are_short(value, text):
    assert book_records.plain(value) == text


def test_rendering_needs_no_torch():
    found = requirements.requirements("book")
    assert any(line.startswith("jupyter-book") for line in found)
    heavy = r"(torch|numpy|scipy|scikit-learn|biglearn-lite)\b"
    assert not [line for line in found if re.match(heavy, line)]


def test_extras_of_the_project_are_spelled_out():
    everything = requirements.requirements("all")
    assert set(requirements.requirements("book")) <= set(everything)
    with pytest.raises(ValueError, match="no extra 'nothing'"):
        requirements.requirements("nothing")


def test_wrong_download_is_removed(tmp_path, monkeypatch):
    def download(command, check):
        (tmp_path / vendor_assets.WHEEL).write_bytes(b"an error page")

    monkeypatch.setattr(vendor_assets.subprocess, "run", download)
    with pytest.raises(ValueError, match="SHA-256"):
        vendor_assets.fetch_wheel(tmp_path)
    assert not list(tmp_path.iterdir())


def test_docstrings_can_be_read_without_torch():
    """Import the documented modules with everything heavy replaced by mocks."""
    code = """
import sys
sys.path[:0] = ["_ext", "."]
import api_pages, importlib
from sphinx.ext.autodoc.mock import _MockObject, mock
api_pages.find_spec = lambda name: None
class config: pass
api_pages.mock_what_is_missing(None, config)
with mock(config.autodoc_mock_imports):
    import biglearn_lite
    for name in biglearn_lite._MODULES:
        importlib.import_module(f"biglearn_lite.{name}")
    import torch
    assert isinstance(torch.Tensor, _MockObject)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
