"""The page about costs runs, shows what it is known to show, and shows it at every run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from nbformat import NotebookNode

import lab_utils as lu
from lab_utils.costs import WORKSHOP
from lab_utils.quotas import quotas

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.notebooks import read, run, shown, shown_file  # noqa: E402

PAGES = [page for page in sorted((ROOT / "book").glob("*.md")) if "{code-cell}" in page.read_text()]
MOST_CELLS, MOST_LINES, MOST_COLUMNS = 30, 15, 79


@pytest.fixture(scope="module", params=PAGES, ids=lambda path: path.stem)
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def code_cells(notebook: NotebookNode) -> Iterator[NotebookNode]:
    return (cell for cell in notebook.cells if cell.cell_type == "code")


def pictures(notebook: NotebookNode) -> list[Any]:
    return [
        output.data["image/png"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]


def test_there_is_a_page_that_runs() -> None:
    assert [page.stem for page in PAGES] == ["cost_and_monitoring"]


@pytest.mark.slow
def test_two_runs_show_the_same_and_what_is_known(page: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda seed: run(page, PYTHONHASHSEED=seed), ["1", "20260"])
    assert shown(one) == shown(other)
    assert pictures(one) == pictures(other) != []
    assert shown(one) == shown_file(page).read_text(encoding="utf-8"), "`make accept`?"
    assert "0x" not in shown(one)


def test_cells_are_short(page: Path) -> None:
    cells = list(code_cells(read(page)))
    assert len(cells) <= MOST_CELLS
    for cell in cells:
        lines = cell.source.splitlines()
        assert len(lines) <= MOST_LINES or "hide-cell" in cell.metadata.get("tags", []), lines[0]
        assert max(map(len, lines)) <= MOST_COLUMNS, lines[0]


def test_every_picture_is_described(page: Path) -> None:
    for cell in code_cells(read(page)):
        if "plot_" in cell.source:
            about = cell.metadata["mystnb"]
            assert about["figure"]["caption"]
            assert about["figure"]["name"].startswith("fig-")
            assert len(about["image"]["alt"].split()) >= 20


def test_it_keeps_the_contract_of_a_chapter(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    opening = text.partition("```{code-cell}")[0]
    assert opening.count("\n- ") == 3
    assert "?**" in opening
    assert re.search(r"minutes? to read", opening.replace("\n", " "))
    for section in ("## Summary", "## Exercises", "## What's next", "**Sources.**"):
        assert section in text
    assert text.count("tags: [hide-cell]") == text.count("\n**1. ") + text.count(
        "\n**2. "
    ) + text.count("\n**3. ")


def test_alarms_are_refused_as_the_page_says() -> None:
    with lu.open_lab("embedded") as lab, pytest.raises(ClientError, match="NotImplemented"):
        lab.client("cloudwatch").put_metric_alarm(
            AlarmName="a",
            Namespace="AWS/Lambda",
            MetricName="IteratorAge",
            Statistic="Maximum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1.0,
            ComparisonOperator="GreaterThanThreshold",
        )


def test_figures_of_the_prose_are_those_of_the_model() -> None:
    """Numbers that a sentence gives and no cell of the page asserts."""
    fitted = {quota.name: quota for quota in quotas(100_000, WORKSHOP.fit(100_000))}
    assert round(fitted["Lambda: running at once"].used, -1) == 770
    usage = lu.costs.AS_MEASURED
    assert usage.write_time + usage.state_work == pytest.approx(0.0075)
    assert lu.quotas.reached("StateLambda: one batch a lane") / 20 > 125
    assert usage.message_bytes + usage.key_bytes == 257
    alarm = lu.prices.load().price("alarm")
    assert (alarm.usd, alarm.free) == (0.1, "10")
