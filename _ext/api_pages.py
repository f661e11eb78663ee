"""Sphinx extension: API pages from docstrings, rendered without torch installed.

What the package imports and the rendering environment lacks is replaced by a mock.
"""

from __future__ import annotations

from importlib.util import find_spec

import book_records  # noqa: F401 (puts the package on the path)
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.ext.autodoc.mock import _MockObject

HEAVY = "torch numpy scipy sklearn mlxtend matplotlib ipywidgets anywidget traitlets"
HEAVY += " safetensors tqdm typer click rich IPython psutil papermill nbformat nbclient"


def not_installed() -> list[str]:
    """What the package imports and this environment lacks."""
    return [name for name in HEAVY.split() if find_spec(name) is None]


def mock_what_is_missing(app: Sphinx, config: Config) -> None:
    """Mock what is not installed here; let a mocked type stand in a union."""
    config.autodoc_mock_imports = not_installed()
    # `np.ndarray | Tensor` at the top of a module is an expression, so it is evaluated
    _MockObject.__or__ = _MockObject.__ror__ = lambda self, other: self


def find_by_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Link a type to where it is documented, not to the file that defines it.

    `Task` is defined in one module and documented as part of another; a type hint
    names the first.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("biglearn_lite."):
        return None
    domain = env.get_domain("py")
    assert isinstance(domain, PythonDomain)
    name = "." + target.rpartition(".")[2]
    found = [known for known in domain.objects if known.endswith(name)]
    if len(found) != 1 or found == [target]:
        return None
    document = node.get("refdoc", env.docname)
    return domain.resolve_xref(
        env, document, app.builder, "obj", found[0], node, content
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("config-inited", mock_what_is_missing)
    app.connect("missing-reference", find_by_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
