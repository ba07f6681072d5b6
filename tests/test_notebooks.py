"""The form of a running chapter: what CONTRIBUTING.md promises about every notebook."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

MAX_LINES = 15
MAY_BE_LONGER = {"long-cell", "hide-cell"}  # tags: a handler for instance; a folded solution
MAX_COLUMNS = 79

ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|usr|opt|var|mnt|work|Users)/|\b[A-Z]:\\")
UNREPEATABLE = {
    "the address of an object": re.compile(r"\bat 0x[0-9a-fA-F]{6,}"),
    "a kernel's temporary file": re.compile(r"ipykernel_\d+"),
    "a Styler's random id": re.compile(r"\bid=\"T_[0-9a-f]{5}"),
    "an absolute path": ABSOLUTE_PATH,
}


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


def test_a_figure_has_its_name_to_itself() -> None:
    """Sphinx knows one figure by a name in the whole book, and links to no other."""
    cells = [cell for path in NOTEBOOKS for cell in nbformat.read(path, as_version=4).cells]
    figures = [cell.metadata.get("mystnb", {}).get("figure", {}) for cell in cells]
    names = Counter(figure["name"] for figure in figures if "name" in figure)
    assert names
    assert not [name for name, count in names.items() if count > 1]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> NotebookNode:
    nb = nbformat.read(request.param, as_version=4)
    nbformat.validate(nb)
    return nb


def code_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    return [(n, cell) for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"]


def texts(cell: NotebookNode) -> list[str]:
    """Everything that a reader sees under a cell, as text."""
    seen = []
    for output in cell.outputs:
        seen += [output.get("text", ""), *output.get("traceback", [])]
        seen += [v for kind, v in output.get("data", {}).items() if kind.startswith("text/")]
    return ["".join(text) for text in seen]


def draws(cell: NotebookNode) -> bool:
    return any(kind.startswith("image/") for o in cell.outputs for kind in o.get("data", {}))


def test_every_code_cell_was_run(notebook: NotebookNode) -> None:
    """Strict nbval compares nothing in a cell without an execution count."""
    counts = [cell.execution_count for _, cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run `make accept`"


def test_cells_are_short(notebook: NotebookNode) -> None:
    for number, cell in code_cells(notebook):
        lines = cell.source.splitlines()
        if not MAY_BE_LONGER & set(cell.metadata.get("tags", [])):
            assert len(lines) <= MAX_LINES, f"cell {number} has {len(lines)} lines"
        widest = max(map(len, lines))
        assert widest <= MAX_COLUMNS, f"cell {number} is {widest} columns wide"


def test_no_cell_hides_its_value_with_a_semicolon(notebook: NotebookNode) -> None:
    """Strict nbval shows the value all the same, and fails: give it a name instead."""
    for number, cell in code_cells(notebook):
        assert not cell.source.rstrip().endswith(";"), f"cell {number}"


def test_nothing_fails_unannounced(notebook: NotebookNode) -> None:
    for number, cell in code_cells(notebook):
        failed = any(output.output_type == "error" for output in cell.outputs)
        announced = "raises-exception" in cell.metadata.get("tags", [])
        assert not failed or announced, f"cell {number} shows an error"


def test_outputs_can_be_repeated(notebook: NotebookNode) -> None:
    for number, cell in code_cells(notebook):
        for text in texts(cell):
            for what, pattern in UNREPEATABLE.items():
                found = pattern.search(text)
                assert not found, f"cell {number} shows {what}: {found[0]}"


def test_sources_run_anywhere(notebook: NotebookNode) -> None:
    for number, cell in enumerate(notebook.cells):
        found = ABSOLUTE_PATH.search(cell.source)
        assert not found, f"cell {number} names an absolute path: {found[0]}"


def test_nothing_of_its_author_is_kept(notebook: NotebookNode) -> None:
    assert "version" not in notebook.metadata.language_info, "run `make accept`"
    for number, cell in enumerate(notebook.cells):
        assert "execution" not in cell.metadata, f"cell {number}: run `make accept`"


def test_every_figure_is_described(notebook: NotebookNode) -> None:
    for number, cell in code_cells(notebook):
        if draws(cell):
            rendering = cell.metadata.get("mystnb", {})
            alt = rendering.get("image", {}).get("alt", "")
            assert len(alt.split()) >= 5, f"cell {number}: mystnb.image.alt is missing or too short"
            figure = rendering.get("figure", {})
            assert figure.get("caption"), f"cell {number}: mystnb.figure.caption is missing"
            assert figure.get("name"), f"cell {number}: mystnb.figure.name is missing"


def test_a_caption_has_one_picture(notebook: NotebookNode) -> None:
    """Whatever a figure's cell shows and doesn't print becomes a figure, of the same name."""
    for number, cell in code_cells(notebook):
        if "figure" in cell.metadata.get("mystnb", {}):
            shown = [output for output in cell.outputs if output.output_type != "stream"]
            assert len(shown) == 1, f"cell {number}: print the rest, or give it a cell of its own"


def test_it_opens_as_promised(notebook: NotebookNode) -> None:
    opening = notebook.cells[0]
    assert opening.cell_type == "markdown"
    first, *rest = opening.source.splitlines()
    body = "\n".join(rest)
    assert first.startswith("# "), "the first line is the title"
    assert "?" in body, "the chapter opens with the question that it answers"
    points = re.findall(r"^[-*] ", body, re.MULTILINE)
    assert len(points) >= 3, "three things that one will be able to do"
    assert re.search(r"\b(minutes?|seconds?)\b", body), "how long it takes to run"


@pytest.mark.parametrize("section", ["Summary", "Exercises", "What's next", "Sources"])
def test_it_closes_as_promised(notebook: NotebookNode, section: str) -> None:
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert re.search(
        rf"^(##+ |\*\*){section}", prose.replace("\u2019", "'"), re.MULTILINE | re.IGNORECASE
    )
