"""A chapter is executed on the second target: its asserts hold, and no cell raises."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.notebooks import run  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("chapter", ["connect_the_pipeline"])
def test_a_chapter_runs_elsewhere(elsewhere: str, chapter: str) -> None:
    notebook = run(ROOT / "notebooks" / f"{chapter}.ipynb", LAB_TARGET="localstack",
                   LAB_MESSAGES="200", AWS_ENDPOINT_URL=elsewhere)
    shown = [output for cell in notebook.cells if cell.cell_type == "code"
             for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    text = "".join(str(output.get("text", output.get("data", ""))) for output in shown)
    assert "localstack" in text, "the chapter says where it ran"
