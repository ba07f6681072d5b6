"""A notebook's outputs are the same at every run, to the byte, figures included."""

from __future__ import annotations

import difflib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.notebooks import normalised, run  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def outputs(notebook: NotebookNode, *, pictures: bool) -> list[str]:
    """What each code cell shows, one line per line shown."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: kept(v) for k, v in value.items() if pictures or "image/" not in k}
        if isinstance(value, list):
            return [kept(each) for each in value]
        return value.splitlines() if isinstance(value, str) else value

    shown = [
        {"cell": number, "outputs": kept(cell.outputs)}
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
    ]
    return json.dumps(shown, indent=1, sort_keys=True).splitlines()


def difference(one: list[str], other: list[str]) -> str:
    lines = difflib.unified_diff(one, other, "one run", "another run", lineterm="", n=2)
    return "\n".join(line[:200] for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_two_runs_show_the_same(path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda seed: run(path, PYTHONHASHSEED=seed), ["1", "20260"])
    differing = difference(outputs(one, pictures=True), outputs(other, pictures=True))
    assert not differing, f"two runs of {path.name} differ:\n{differing}"

    committed = normalised(nbformat.read(path, as_version=4))
    differing = difference(outputs(committed, pictures=False), outputs(one, pictures=False))
    assert not differing, f"{path.name} shows something new (`make accept`?):\n{differing}"
