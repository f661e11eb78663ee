"""Sphinx extension: every script and style of the pages is a local file.

`tools/vendor_assets.py` puts MathJax and plotly.js into `_vendor/`; this extension
points the pages at them, at our own files in `_assets/`, and takes out what asks for
the network.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError


def use_local_files(app: Sphinx, config: Config) -> None:
    """Point MathJax, plotly.js and widgets at files below `_static`."""
    source = Path(app.srcdir)
    if not (source / "_vendor" / "mathjax" / "tex-mml-chtml.js").exists():
        fetch_vendor(source)  # so that a plain `jupyter-book build .` works too
    # never a folder named _static: Jupyter Book loads all its scripts on every page
    config.html_static_path = [*config.html_static_path, "_assets", "_vendor"]
    config.mathjax_path = "mathjax/tex-mml-chtml.js"
    config.nb_ipywidgets_js = {"static-widgets.js": {"defer": "defer"}}
    app.add_css_file("book.css")


def fetch_vendor(source: Path) -> None:
    """Fill `_vendor/`; refuse to build pages that would ask for the network."""
    script = source / "tools" / "vendor_assets.py"
    if subprocess.run([sys.executable, str(script)], check=False).returncode:
        raise ExtensionError("_vendor/ could not be filled: see the message above.")


def drop_thebe(app: Sphinx, config: Config) -> None:
    """Take out sphinx-thebe: it asks for the network and logs an error on each page."""
    for event, listeners in app.events.listeners.items():
        app.events.listeners[event] = [
            one for one in listeners if one.handler.__module__ != "sphinx_thebe"
        ]
    app.registry.css_files = [
        style for style in app.registry.css_files if style[0] != "sphinx-thebe.css"
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("config-inited", use_local_files)
    app.connect("config-inited", drop_thebe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
