"""The runner: chapters run whole or fail loudly, and nbval compares what they print."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from biglearn_lite import book, chapters
from biglearn_lite.book import ChapterError, PeakMemory, Settings, run_book
from biglearn_lite.chapters import lint, lint_ledger, normalise
from biglearn_lite.claims import read_ledger

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = 'profile = "auto"\ntrain = False'
LAST_CELL = 'claim("the sum", 1 + total, at_least=0)'
WIDGET = """import anywidget, traitlets
class Dial(anywidget.AnyWidget):
    _esm = "export default {render() {}}"
    turn = traitlets.Int(3).tag(sync=True)
Dial()"""


def cell(source, *tags):
    return new_code_cell(source, metadata={"tags": list(tags)} if tags else {})


def chapter(*sources, parameters=PARAMETERS):
    """A chapter that prints in five cells, then runs `sources`."""
    cells = [
        new_markdown_cell("# A chapter"),
        cell(parameters, "parameters"),
        cell("import os\nfrom biglearn_lite import claim\ntotal = 0"),
        *(cell(f"total += {n}\nprint({n}, total)") for n in range(4)),
        cell(LAST_CELL),
        *(cell(source) for source in sources),
    ]
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "x"}
    for number, each in enumerate(notebook.cells):
        each["id"] = f"cell-{number}"
    return notebook


def project(folder, **notebooks):
    """A checkout with these chapters, the guard and the settings of pytest."""
    (folder / "book").mkdir()
    root, *others = notebooks
    files = "".join(f"  - file: book/{slug}\n" for slug in others)
    (folder / "_toc.yml").write_text(f"root: book/{root}\nchapters:\n{files}")
    for slug, notebook in notebooks.items():
        nbformat.write(notebook, folder / "book" / f"{slug}.ipynb")
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tools" / "offline", folder / "tools" / "offline")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project of one chapter, run at its default parameters."""
    first = chapter("print(os.environ['BIGLEARN_STATIC'], profile, train)")
    first.cells.append(cell(WIDGET, "nbval-ignore-output"))
    root = project(tmp_path_factory.mktemp("finished"), first=first)
    run_book(root, settings=Settings(timeout=60))
    return root


def read(root, slug="first"):
    return nbformat.read(root / "book" / f"{slug}.ipynb", as_version=4)


# ---------------------------------------------------------------- a good run


def test_the_committed_form(finished):
    notebook = read(finished)
    text = (finished / "book" / "first.ipynb").read_text()
    assert [each.id for each in notebook.cells][:3] == ["cell-0", "cell-1", "cell-2"]
    assert notebook.cells[8].outputs[0].text == "1 auto False\n"
    for trace in ("papermill", "injected", "iopub", "start_time", str(finished), "0x7"):
        assert trace not in text
    assert notebook.metadata.language_info == {"name": "python"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert [each.execution_count for each in notebook.cells[1:]] == list(range(1, 10))
    nbformat.validate(notebook)


def test_widget_ids_are_stable(finished):
    notebook = read(finished)
    view = notebook.cells[-1].outputs[0].data[chapters.WIDGET_VIEW]
    states = notebook.metadata.widgets[chapters.WIDGET_STATE].state
    assert set(states) == {"first-0", "first-1"}
    shown = states[view["model_id"]]["state"]
    assert shown["turn"] == 3
    assert shown["layout"] == "IPY_MODEL_first-0"


def test_normalising_twice_changes_nothing(finished):
    text = (finished / "book" / "first.ipynb").read_text()
    assert normalise(nbformat.reads(text, as_version=4), "first") == text


def test_traces_of_a_run_go_and_the_rest_stays():
    notebook = executed()
    clean = normalise(notebook, "x")
    notebook.cells.insert(2, cell("profile = 'cpu'", "injected-parameters"))
    notebook.metadata["papermill"] = {"start_time": "now"}
    for each in notebook.cells:
        each.metadata |= {"papermill": {}, "execution": {}, "collapsed": False}
        each.metadata.setdefault("tags", [])
    assert normalise(notebook, "x") == clean
    notebook.cells[1].metadata["mystnb"] = {"image": {"alt": "a digit"}}
    assert "a digit" in normalise(notebook, "x")


def test_the_ledger_has_the_claims_and_the_costs(finished):
    ledger = read_ledger(finished / "book" / "ledger.json")
    claims = ledger["claims"]["first"]
    assert claims["the sum"]["cpu"]["held"] is True
    assert claims["the sum"]["cpu"]["value"] == 7
    costs = ledger["chapters"]["first"]["cpu"]
    assert set(costs) == set(chapters.CHAPTER_ENTRY)
    assert costs["code"] == chapters.code_hash(read(finished))
    assert 0.5 < costs["seconds"] < 120
    assert 20 < costs["peak_mib"] < 4000
    assert book.check_book(finished) == []


def test_nbval_passes_and_catches_a_tampered_output(finished, tmp_path):
    """Bare, from the root, as a reader would call it."""
    root = tmp_path / "copy"
    shutil.copytree(finished, root)
    tampered = read(root)
    tampered.cells[5].outputs[0].text = "2 4\n"
    nbformat.write(tampered, root / "book" / "tampered.ipynb")
    environment = {k: v for k, v in os.environ.items() if k != "BIGLEARN_STATIC"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--nbval",
            "book",
            "-q",
            "-p",
            "no:cacheprovider",
        ],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "1 failed, 17 passed" in done.stdout, done.stdout
    assert "tampered.ipynb::Cell 4" in done.stdout
    assert "Cell outputs differ" in done.stdout


def test_smoke_judges_nothing_and_writes_no_ledger(finished, tmp_path, capsys):
    before = (finished / "book" / "ledger.json").read_bytes()
    committed = (finished / "book" / "first.ipynb").read_bytes()
    settings = Settings(profile="smoke", train=True, offline=True)
    run_book(finished, settings=settings, output=tmp_path / "out")
    done = nbformat.read(tmp_path / "out" / "first.ipynb", as_version=4)
    printed = [out.text for each in done.cells[1:-1] for out in each.outputs]
    assert printed[-1] == "1 smoke True\n"
    assert printed[-2].startswith("not judged at smoke: the sum is 7")
    assert (finished / "book" / "ledger.json").read_bytes() == before
    assert (finished / "book" / "first.ipynb").read_bytes() == committed
    assert "1 of them not judged" in capsys.readouterr().out


def test_other_parameters_write_no_ledger(finished, tmp_path, monkeypatch):
    """Numbers from changed parameters are not the book's."""
    before = (finished / "book" / "ledger.json").read_bytes()
    notebook = read(finished)
    done = book.Executed(notebook, [], 1.0, 1.0)
    monkeypatch.setattr(book, "execute", lambda *_: done)
    monkeypatch.setattr(chapters, "check_parameters", lambda *_: None)
    run_book(finished, settings=Settings(parameters={"n": 3}), output=tmp_path)
    assert (finished / "book" / "ledger.json").read_bytes() == before
    root = shutil.copytree(finished, tmp_path / "copy")
    run_book(root, settings=Settings(train=True), output=tmp_path)
    assert read_ledger(root / "book" / "ledger.json")["claims"]["first"] == {}


# ---------------------------------------------------------------- runs that must fail

BROKEN_EXPLORE = """from biglearn_lite import figures
def show(k):
    raise ZeroDivisionError("broken callback")
figures.explore(show, k=[1, 2])"""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (BROKEN_EXPLORE, "broken callback"),
        ("import urllib.request as u\nu.urlopen('http://192.0.2.1')", "switched off"),
        ('claim("it", 3, at_most=2)', "does not hold: it is 3"),
        ("import time\ntime.sleep(60)", "longer than 6 s"),
    ],
)
def test_a_failing_chapter_changes_nothing(source, message, tmp_path, capsys):
    root = project(tmp_path, first=chapter(source))
    before = (root / "book" / "first.ipynb").read_bytes()
    with pytest.raises(ChapterError, match=message) as caught:
        run_book(root, settings=Settings(offline=True, timeout=6))
    assert "'first'" in str(caught.value)
    assert source.splitlines()[0] in str(caught.value)
    assert (root / "book" / "first.ipynb").read_bytes() == before
    assert not (root / "book" / "ledger.json").exists()


NO_CELL = chapter()
NO_CELL.cells[1].metadata = {}
TWO_CELLS = chapter()
TWO_CELLS.cells[2].metadata = {"tags": ["parameters"]}


@pytest.mark.parametrize(
    ("notebook", "parameters", "message"),
    [
        (chapter(), {"n_stepz": 5}, "no parameter 'n_stepz'"),
        (chapter(parameters='profile = "auto"'), {}, "no parameter 'train'"),
        (chapter(parameters='profile == "auto"\ntrain = 1'), {}, "'profile'"),
        (NO_CELL, {}, "0 cells tagged `parameters`"),
        (TWO_CELLS, {}, "2 cells tagged `parameters`"),
    ],
)
def test_wrong_parameters_are_found_before_any_kernel(
    notebook, parameters, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(book, "execute", lambda *_: pytest.fail("it started"))
    root = project(tmp_path, first=chapter(), second=notebook)
    with pytest.raises(ValueError, match=message):
        run_book(root, settings=Settings(parameters=parameters))


@pytest.mark.parametrize("output", ["a-file", "a-file/below"])
def test_a_bad_folder_is_found_before_any_kernel(output, tmp_path, monkeypatch):
    monkeypatch.setattr(book, "execute", lambda *_: pytest.fail("it started"))
    root = project(tmp_path, first=chapter())
    (tmp_path / "a-file").touch()
    with pytest.raises(ValueError, match=r"cannot be written to .*a-file"):
        run_book(root, output=tmp_path / output)


def test_execute_itself_refuses_wrong_parameters(tmp_path):
    root = project(tmp_path, first=chapter())
    with pytest.raises(ValueError, match="no parameter 'n'"):
        book.execute(root, root / "book/first.ipynb", Settings(parameters={"n": 1}))


def test_annotated_parameters_are_parameters():
    notebook = chapter(parameters='profile: str = "auto"  # which\ntrain: bool = False')
    chapters.check_parameters(notebook, ("profile", "train"), "x")


def test_unknown_chapters_and_profiles(tmp_path):
    root = project(tmp_path, first=chapter())
    with pytest.raises(ValueError, match=r"'third'.*'first'"):
        run_book(root, ["third"])
    with pytest.raises(ValueError, match=r"'fast'.*smoke"):
        run_book(root, settings=Settings(profile="fast"))
    (root / "book" / "first.ipynb").write_text("{")
    with pytest.raises(ValueError, match=r"first\.ipynb is not a notebook"):
        run_book(root)


def test_without_the_guard_offline_is_an_error(tmp_path):
    root = project(tmp_path, first=chapter())
    shutil.rmtree(root / "tools")
    with pytest.raises(ValueError, match="sitecustomize"):
        run_book(root, settings=Settings(offline=True))


def test_the_environment_is_put_back(monkeypatch, tmp_path):
    monkeypatch.setenv("BIGLEARN_PROFILE", "gpu")
    monkeypatch.delenv("BIGLEARN_CHAPTER", raising=False)
    variables = {"BIGLEARN_PROFILE": "smoke", "BIGLEARN_CHAPTER": "x"}

    def fail():
        with book.environment(variables):
            assert os.environ["BIGLEARN_CHAPTER"] == "x"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert os.environ["BIGLEARN_PROFILE"] == "gpu"
    assert "BIGLEARN_CHAPTER" not in os.environ


def test_peak_memory_sees_the_children():
    code = "x = bytearray(200 * 2**20); import time; time.sleep(1.5)"
    with PeakMemory(interval=0.05) as memory:
        subprocess.run([sys.executable, "-c", code], check=True)
    assert 200 < memory.peak_mib < 1000
    with PeakMemory(interval=0.05) as memory:
        time.sleep(0.2)
    assert memory.peak_mib < 100


# ---------------------------------------------------------------- the order of the book


def test_the_order_is_that_of_the_table_of_contents(tmp_path):
    root = project(tmp_path, second=chapter(), first=chapter())
    (root / "_toc.yml").write_text(
        "root: book/intro\nparts:\n- chapters:\n  - file: book/second\n"
        "    sections:\n    - file: book/deep\n- chapters:\n  - file: book/first\n"
        "  - file: book/words\n"
    )
    (root / "book" / "words.md").write_text("# words")
    shutil.copy(root / "book" / "first.ipynb", root / "book" / "deep.ipynb")
    shutil.copy(root / "book" / "first.ipynb", root / "book" / "stray.ipynb")
    slugs = [path.stem for path in chapters.chapter_paths(root)]
    assert slugs == ["second", "deep", "first"]
    assert chapters.lint_contents(root) == [
        "the table of contents names book/intro, which does not exist.",
        "book/stray.ipynb is not in the table of contents.",
    ]
    chosen = chapters.choose(root, ["book/first.ipynb", "second"])
    assert [path.stem for path in chosen] == ["second", "first"]


def test_find_root(tmp_path, monkeypatch):
    root = project(tmp_path, first=chapter())
    assert chapters.find_root(root / "book") == root
    assert chapters.find_root("/") == ROOT  # where the package was installed from
    monkeypatch.setattr(chapters, "__file__", "/nowhere/biglearn_lite/chapters.py")
    with pytest.raises(FileNotFoundError, match="checkout"):
        chapters.find_root("/")


# ---------------------------------------------------------------- what check finds


def executed(*sources):
    """A synthetic chapter as if it had run."""
    notebook = chapter(*sources)
    for number, each in enumerate(notebook.cells[1:], 1):
        each.execution_count = number
    for each in notebook.cells[3:8]:
        each.outputs = [new_output("stream", name="stdout", text="1\n")]
    return notebook


def test_a_good_chapter_has_no_findings():
    assert lint(executed(), "x") == []


def test_a_stripped_notebook_is_found():
    stripped = executed()
    for each in stripped.cells[1:]:
        each.execution_count, each.outputs = None, []
    findings = lint(stripped, "x")
    assert "x, code cell 0: it was not executed." in findings
    assert any("nbval compares 0 cells" in each for each in findings)


@pytest.mark.parametrize("hide", ["tag", "skip", "picture", "count", "stderr"])
def test_fewer_than_five_compared_cells_are_found(hide):
    notebook = executed()
    each = notebook.cells[5]
    if hide in ("tag", "skip"):
        each.metadata = {
            "tags": [f"nbval-{'ignore-output' if hide == 'tag' else hide}"]
        }
    elif hide == "picture":
        each.outputs = [new_output("display_data", {"image/png": "abc"})]
    elif hide == "stderr":
        each.outputs = [new_output("stream", name="stderr", text="x")]
    else:
        each.execution_count = None
    assert any("nbval compares 4 cells" in found for found in lint(notebook, "x"))


@pytest.mark.parametrize("counts", [{1: 2, 2: 1}, {7: 8}, {1: 0}])
def test_cells_that_ran_out_of_order_are_found(counts):
    notebook = executed()
    for number, count in counts.items():
        notebook.cells[number].execution_count = count
    assert "x: its cells ran in the order" in lint(notebook, "x")[0]


def test_figures_and_results_count_as_compared():
    notebook = executed()
    plotly = {"application/vnd.plotly.v1+json": {"data": []}}
    notebook.cells[5].outputs = [new_output("execute_result", plotly)]
    notebook.cells[6].outputs = [new_output("execute_result", {"text/plain": "3"})]
    assert lint(notebook, "x") == []


@pytest.mark.parametrize(
    ("tags", "output", "message"),
    [
        (["injected-parameters"], None, "no place"),
        (["raises-exception"], None, "no place"),
        ([], new_output("error", ename="E", evalue="bad"), "it ended with E: bad"),
        ([], new_output("stream", name="stderr", text="Warning: x"), "Warning: x"),
        ([], new_output("stream", text="in /home/someone/x"), "/home/someone"),
        ([], new_output("execute_result", {"text/plain": "'/tmp/x'"}), "/tmp/x"),
    ],
)
def test_bad_cells_are_found(tags, output, message):
    notebook = executed("1 + 1")
    notebook.cells[-1].metadata = {"tags": tags} if tags else {}
    notebook.cells[-1].outputs = [output] if output else []
    findings = lint(notebook, "x")
    assert len(findings) == 1
    assert message in findings[0]


def test_an_address_is_no_path():
    notebook = executed("1 + 1")
    text = "see https://example.org/home/page and ratio a/tmp/x"
    notebook.cells[-1].outputs = [new_output("stream", name="stdout", text=text)]
    assert lint(notebook, "x") == []


def ledger(held=True, name="the sum", **changed):
    entry = {"value": 1.0, "rule": "at least 0", "held": held}
    entry |= {"device": "d", "date": "t"}
    costs = {"seconds": 1, "peak_mib": 2.5, "device": "d", "date": "t"}
    costs |= {"versions": {}, "code": chapters.code_hash(executed())}
    return {
        "claims": {"x": {name: {"cpu": entry}}},
        "chapters": {"x": {"cpu": {**costs, **changed}}},
    }


def claiming(text="the sum is 1 (at least 0)"):
    notebook = executed()
    notebook.cells[7].outputs[0].text = f"holds: {text}\n"
    return {"x": notebook}


def test_ledger_and_chapters_agree():
    assert lint_ledger(ledger(), claiming()) == []
    assert "does not hold" in lint_ledger(ledger(held=False), claiming())[0]
    assert "not those of the ledger" in lint_ledger(ledger(name="other"), claiming())[0]
    assert "not those of the ledger" in lint_ledger(ledger(), {"x": executed()})[0]
    assert "no chapter" in lint_ledger(ledger(), {})[0]
    both = {**claiming(), "y": executed()}
    assert lint_ledger(ledger(), both) == [
        "y is not in the ledger: run `biglearn book run y`."
    ]


@pytest.mark.parametrize(
    "text", ["the sum is 2 (at least 0)", "the sum is 1 (at least 1)", "the sum is 1"]
)
def test_numbers_edited_by_hand_are_found(text):
    (finding,) = lint_ledger(ledger(), claiming(text))
    assert "not those of the ledger, such as 'the sum is 1" in finding
    edited = ledger()
    edited["claims"]["x"]["the sum"]["cpu"]["value"] = 1.5
    assert len(lint_ledger(edited, claiming())) == 1


def test_code_edited_without_a_run_is_found():
    edited = claiming()
    edited["x"].cells[3].source += "  # more"
    (finding,) = lint_ledger(ledger(), edited)
    assert "its code changed" in finding
    edited = claiming()
    edited["x"].cells[0].source = "# Other words"
    assert lint_ledger(ledger(), edited) == []


@pytest.mark.parametrize("key", sorted(chapters.CHAPTER_ENTRY))
@pytest.mark.parametrize("value", [None, []])
def test_what_a_chapter_s_entry_lacks_is_found(key, value):
    findings = lint_ledger(ledger(**{key: value}), claiming())
    assert findings[0] == f"x at cpu: the ledger has no proper {key}."


@pytest.mark.parametrize("key", sorted(chapters.CLAIM_ENTRY))
def test_what_a_claim_s_entry_lacks_is_found(key):
    damaged = ledger()
    del damaged["claims"]["x"]["the sum"]["cpu"][key]
    findings = lint_ledger(damaged, claiming())
    assert findings[0].endswith(f"'the sum' at cpu: the ledger has no proper {key}.")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("_toc.yml", "root: [book", "_toc.yml cannot be read"),
        ("_toc.yml", "", "the table of contents is empty."),
        ("_toc.yml", "chapters: {file: 3}", "names 3, which does not exist"),
        ("_toc.yml", "- file: [book]", "names ['book'], which does not exist"),
        ("book/first.ipynb", "[]", "first.ipynb is not a notebook: "),
        ("book/first.ipynb", "null", "first.ipynb is not a notebook: "),
        ("book/first.ipynb", '{"nbformat": 7}', "first.ipynb is not a notebook: "),
        ("book/ledger.json", '{"claims": [], "chapters": 1}', "cannot be read"),
        ("book/ledger.json", "", "cannot be read"),
    ],
)
def test_damaged_files_are_one_sentence(file, text, message, finished, tmp_path):
    root = shutil.copytree(finished, tmp_path / "copy")
    (root / file).write_text(text)
    findings = book.check_book(root)
    assert any(message in each for each in findings)
    assert not any("\n" in each for each in findings)


def test_a_chapter_that_left_the_book_leaves_the_ledger(finished):
    lost = {"claims": {"gone": {}, "first": {}}, "chapters": {"gone": {}}}
    kept = book._without_lost_chapters(finished, lost)
    assert kept == {"claims": {"first": {}}, "chapters": {}}


# ---------------------------------------------------------------- the real book

PATHS = {path.stem: path for path in chapters.chapter_paths(ROOT)}


@pytest.mark.parametrize("slug", PATHS)
def test_committed_chapters_are_in_order(slug):
    assert lint(chapters.read(PATHS[slug]), slug) == []


@pytest.mark.parametrize("slug", PATHS)
def test_committed_chapters_are_normalised(slug):
    """A plain diff is enough to see what a new run changed."""
    text = PATHS[slug].read_text(encoding="utf-8")
    assert normalise(nbformat.reads(text, as_version=4), slug) == text


def test_the_ledger_speaks_of_the_committed_chapters():
    notebooks = {slug: chapters.read(path) for slug, path in PATHS.items()}
    assert lint_ledger(read_ledger(book.ledger_path(ROOT)), notebooks) == []


def test_nothing_of_this_machine_is_in_the_ledger():
    path = book.ledger_path(ROOT)
    text = path.read_text() if path.exists() else ""
    assert not chapters.ABSOLUTE_PATH.search(text)
