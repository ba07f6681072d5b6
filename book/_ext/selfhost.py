"""Mend in the pages what the theme and its extensions leave: a small local Sphinx extension.

- No live-code launcher: its script comes from another host, and is declared twice.
- A table of a DataFrame gets a box in which it can scroll (by keyboard too), and its corner is
  an empty cell, not an empty header, which a screen reader would announce.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

EMPTY_HEADER = re.compile(r"<th[^>]*>\s*</th>")
FRAME = re.compile(r'<table border="1" class="dataframe">(.*?)</table>', re.DOTALL)
BOX = '<div class="frame" tabindex="0" role="region" aria-label="table"><table class="dataframe">'


def without_launcher(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    def launches(script: Any) -> bool:
        attributes = getattr(script, "attributes", {})
        return "thebe" in f"{script} {getattr(script, 'filename', '')} {attributes}".lower()

    context["script_files"] = [s for s in context.get("script_files", []) if not launches(s)]


def mend_frames(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for raw in list(doctree.findall(nodes.raw)):
        text = raw.astext()
        if raw.get("format") != "html":
            continue
        if "thebe" in text or "kernelName" in text:
            raw.parent.remove(raw)
        elif 'class="dataframe"' in text:
            mended = FRAME.sub(lambda table: f"{BOX}{table[1]}</table></div>", text)
            raw.children = [nodes.Text(EMPTY_HEADER.sub("<td></td>", mended))]
            raw.rawsource = mended


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", without_launcher, priority=900)
    app.connect("doctree-resolved", mend_frames, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
