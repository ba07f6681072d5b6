"""A chapter is executed on the second target: its asserts hold, and no cell raises.

Chapters about partitions and moved clocks are not here: they open the embedded lab on any target.
The second target is MiniStack's server, or what listens at LAB_TEST_ENDPOINT; the executed
notebooks are kept in the folder LAB_TEST_KEEP, if it is named.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.notebooks import run  # noqa: E402

pytestmark = pytest.mark.slow

CHAPTERS = [
    "one_record",
    "which_writes_leave_a_record",
    "connect_the_pipeline",
    "on_localstack_and_aws",
]


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> str:
    """Where the second target listens."""
    return os.environ.get("LAB_TEST_ENDPOINT") or request.getfixturevalue("elsewhere")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder for executed notebooks."""
    folder = Path(os.environ.get("LAB_TEST_KEEP") or tmp_path / "executed").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_runs_elsewhere(endpoint: str, chapter: str, kept: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
    copy = tmp_path / f"{chapter}.ipynb"
    nbformat.write(notebook, copy)
    executed = run(
        copy,
        keep=kept / copy.name,
        LAB_TARGET="localstack",
        LAB_MESSAGES="200",
        AWS_ENDPOINT_URL=endpoint,
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    )
    shown = [
        output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert not [output for output in shown if output.output_type == "error"]
    text = "".join(str(output.get("text", output.get("data", ""))) for output in shown)
    assert "localstack" in text, "the chapter says where it ran"
