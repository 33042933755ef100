"""The site: Markdown by MyST, the reference by autodoc. `nox -s site` builds it, `nox -s site -- --serve` shows it.

The same Markdown is read on GitHub and run by `nox -s docs`, so a page links to a file (`mutex.md`), never to a
label.
"""

from __future__ import annotations

import http.client
import importlib
import os
import re
import sys
import typing
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

from asynclocks._engine.absent import Absent

HERE = Path(__file__).parent

project = "asynclocks"
copyright = "The asynclocks authors"  # noqa: A001  # Sphinx's name for it
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["live"]
nitpicky = True
suppress_warnings = ["myst.header"]  # a page that others include begins at a lower level

# Markdown.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# What the pages link to outside of this folder: pages of the site where they are included, else files to look at.
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "measuring.md",
    "examples/github_client/README.md": "examples/github_client.md",
    "examples/worker/README.md": "examples/worker.md",
}
INCLUDE = re.compile(r"^```{include} (?P<file>\S+)\n(?::end-before: (?P<end>.+)\n)?```$", re.MULTILINE)
LINK = re.compile(r"\]\((?![a-z]+:)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")

# Docstrings: Google's sections. `name` in them is a link where there is such a name, and code where there is none.
default_role = "py:obj"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Members that a private base brings are ours to promise; what these bring is Python's.
autodoc_default_options = {"members": True, "inherited-members": "BaseException,dict,Protocol", "undoc-members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 110
python_use_unqualified_type_names = True

# The page. Nothing comes from elsewhere: the theme's files and the search's index lie beside it.
html_theme = "furo"
html_title = "asynclocks"
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
html_copy_source = False
html_show_sphinx = False
SIDEBAR = ["brand", "search", "scroll-start", "live", "navigation", "scroll-end"]

# The live page is no page of Sphinx's: `tools/live.py` puts it into `live/` of the site. The sidebar has a link to it.
html_sidebars = {"**": [f"sidebar/{part}.html" for part in SIDEBAR]}

INVENTORIES = {
    "python": "https://docs.python.org/3/",
    "anyio": "https://anyio.readthedocs.io/en/stable/",
    "trio": "https://trio.readthedocs.io/en/stable/",
    "attrs": "https://www.attrs.org/en/stable/",
    "httpx": "https://www.python-httpx.org/",
}


def reachable() -> Iterator[str]:
    """Tell which of the other projects' inventories can be had here: a build without a network must not fail."""
    for name, url in INVENTORIES.items():
        try:
            with urllib.request.urlopen(f"{url}objects.inv", timeout=5):  # noqa: S310  # all of them are https
                yield name
        except (http.client.HTTPException, urllib.error.URLError, TimeoutError):
            continue


intersphinx_mapping = {name: (INVENTORIES[name], None) for name in reachable()}

# Without its inventory another project's name is taken on trust. Ours never is.
OTHERS = {
    "python": rf"({'|'.join(sys.stdlib_module_names)})\..*",
    "anyio": r"anyio\..*",
    "trio": r"trio\..*",
    "attrs": r"attrs?\..*",
    "httpx": r"httpx\..*",
}
nitpick_ignore_regex = [
    (r"py:.*", names) for project_name, names in OTHERS.items() if project_name not in intersphinx_mapping
]
nitpick_ignore_regex += [
    (r"py:.*", r"(.*\.)?([A-Z][a-z]?|[A-Z]\w*T)(_co|_contra)?"),  # type variables
    (r"py:.*", r".*\[.*"),  # a piece of an annotation that Sphinx takes for a name
    (r"py:.*", r"(js|pyodide)\..*"),  # no inventory anywhere
    (r"py:.*", r"asynclocks\.drop_in\.\w+\._\w+"),  # the original's are private too
]


def public_modules() -> Iterator[Any]:
    """Every module whose ``__all__`` is a promise."""
    for name in ("", ".protocols", ".testing", ".debug", ".recipes", ".backends", ".backends.seam"):
        yield importlib.import_module(f"asynclocks{name}")


def public_names() -> dict[str, str]:
    """Where what is made in a private place can be found in public."""
    found: dict[str, str] = {}
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            made = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
            found.setdefault(made, f"{module.__name__}.{name}")
    return found


def find_public(app: Sphinx, _env: Any, node: pending_xref, content: nodes.Element) -> nodes.Node | None:
    """Link to the public name of what an annotation calls by the name of the module that makes it."""
    target = node.get("reftarget", "")
    names: dict[str, str] = app.config["asynclocks_public"]
    candidates = [names.get(target), *(full for made, full in names.items() if made.rpartition(".")[2] == target)]
    documented = app.env.domains.python_domain.objects
    for full in filter(None, candidates):
        if full in documented:
            there = documented[full]
            return make_refnode(app.builder, node["refdoc"], there.docname, there.node_id, [content], full)
    if node.get("reftype") == "obj":
        return content  # `name` of something that is not in the reference
    return None


def hide_private_bases(_app: Sphinx, _name: str, _thing: Any, _options: Any, bases: list[Any]) -> None:
    """Show the bases that a user may name."""
    bases[:] = [base for base in bases if not str(getattr(base, "__module__", "")).startswith("asynclocks._")]


def refer_to_class(_app: Sphinx, what: str, name: str, _thing: Any, _options: Any, lines: list[str]) -> None:
    """Say where the promise stands of a protocol's method: at the class of the same name."""
    theirs = name.replace("asynclocks.protocols.", "asynclocks.")
    told = any(lines) and not lines[0].startswith("Helper for @overload")
    if theirs != name and what in {"method", "property"} and not told and ".Part." not in name:
        lines[:] = [f"What `{theirs}` promises."]


def show_protocol(
    _app: Sphinx, what: str, _name: str, thing: Any, _options: Any, signature: str, returned: str
) -> tuple[str, str]:
    """A protocol is not called, and its method that is overloaded has no signature of its own."""
    if what == "class" and getattr(thing, "_is_protocol", False):
        return "", returned
    if what == "method" and thing is typing._overload_dummy:
        return "(…)", returned
    return signature, returned


def skip_inner(_app: Sphinx, _what: str, name: str, thing: Any, skip: bool, _options: Any) -> bool:
    """Leave out what only debuggers and the library itself look for, and names that are absent for a reason."""
    inner = name.startswith("cr_") or (name == "kind" and isinstance(thing, str)) or isinstance(thing, Absent)
    return inner or skip


def link_within(app: Sphinx, page: str, source: list[str]) -> None:
    """Let a page have the text of the file that it names, and links lead to pages where there is one.

    MyST's own `include` leaves the links of what it includes relative to another folder.
    """
    here = HERE / Path(page).parent

    def follow(text: str, folder: Path) -> str:
        def there(link: re.Match[str]) -> str:
            target = (folder / link["path"]).resolve()
            target = HERE / ELSEWHERE.get(str(target.relative_to(HERE.parent)), target)
            return f"]({os.path.relpath(target, here)}{link['anchor'] or ''})"

        return LINK.sub(there, text)

    def include(directive: re.Match[str]) -> str:
        file = (here / directive["file"]).resolve()
        app.env.note_dependency(str(file))
        included, _, _ = file.read_text().partition(directive["end"] or "\0")
        return follow(included, file.parent)

    # In this order: what is included has its links followed once.
    parts = INCLUDE.split(source[0])[:: INCLUDE.groups + 1]
    inclusions = [include(directive) for directive in INCLUDE.finditer(source[0])]
    source[0] = "".join(
        part for pair in zip_longest((follow(part, here) for part in parts), inclusions, fillvalue="") for part in pair
    )


def setup(app: Sphinx) -> None:
    """Register what this file adds."""
    app.add_config_value("asynclocks_public", public_names(), "")
    app.connect("missing-reference", find_public)
    app.connect("autodoc-process-bases", hide_private_bases)
    app.connect("autodoc-process-docstring", refer_to_class)
    app.connect("autodoc-process-signature", show_protocol)
    app.connect("autodoc-skip-member", skip_inner)
    app.connect("source-read", link_within)
