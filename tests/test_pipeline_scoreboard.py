"""The verdict on a round, and how it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab_utils.pipeline.messages import Counts, make_burst
from lab_utils.pipeline.scoreboard import Round, Scoreboard
from lab_utils.pipeline.totals import in_cents, money

BURST = make_burst(1, 400)


def played(**changes):
    right = Round(
        seed=1,
        special=False,
        sent=BURST.counts,
        expected=BURST.expected,
        observed=dict(BURST.expected),
        sending=1.0,
        waited=11.36,
        message_count=400,
        late={},
    )
    return replace(right, **changes)


def wrong(**errors):
    keys = {key.replace("_", ":"): error for key, error in errors.items()}
    return played(observed={k: v + keys.get(k, 0) for k, v in BURST.expected.items()}, waited=30.0)


def test_a_right_round_is_worth_a_hundred_points():
    assert played().points == 100
    assert played().off == {}
    assert str(played()) == "Round: 100 points - 18 of 18 totals right after 11.4 s"


def test_one_cent_makes_a_round_worthless_and_is_named():
    spoilt = wrong(Delta_FXSpot=-1)
    assert (spoilt.points, spoilt.right) == (0, 17)
    assert spoilt.off == {"Delta:FXSpot": -1}
    whole, less = (money(BURST.expected["Delta:FXSpot"] - cents) for cents in (0, 1))
    assert spoilt.report(2).splitlines() == [
        "Round 2: 0 points - 17 of 18 totals right after 30.0 s",
        f"  Delta:FXSpot is 0.01 too low: {less} instead of {whole}",
    ]


def test_a_report_names_the_widest_errors_first():
    report = wrong(Delta=100, PV=-5_000_00, PV_FXSpot=7, PV_FXOptions=8).report()
    assert [line.split(" is ")[0].strip() for line in report.splitlines()[1:]] == [
        "PV",
        "Delta",
        "PV:FXOptions",
        "and 1 more",
    ]


def test_a_report_says_when_nothing_arrived():
    silent = played(observed=dict.fromkeys(BURST.expected, 0), message_count=0)
    assert silent.points == 0
    assert "nothing arrived: is every link connected?" in silent.report()


def test_a_scoreboard_adds_rounds_up():
    board = Scoreboard()
    assert repr(board) == "Total: 0 points"
    board.add(played())
    board.add(wrong(Delta=123))
    assert (board.points, board.message_count) == (100, 800)
    assert repr(board).startswith("Round 1: 100 points")
    assert "\nRound 2: 0 points" in repr(board)
    assert repr(board).endswith("\nTotal: 100 points")
    assert "17 of 18" in board._repr_html_()
    frame = board.as_frame()
    assert list(frame.index) == [1, 2]
    assert list(frame["points"]) == [100, 0]
    assert list(frame["largest_error"]) == [0, 1.23]


def test_an_empty_scoreboard_has_an_empty_frame():
    assert len(Scoreboard().as_frame()) == 0


@pytest.mark.parametrize(
    ("cents", "text"),
    [(0, "0.00"), (5, "0.05"), (-5, "-0.05"), (123456789, "1,234,567.89"), (-100, "-1.00")],
)
def test_money_is_written_for_people(cents, text):
    assert money(cents) == text


def test_missing_totals_are_nothing():
    assert set(in_cents({}).values()) == {0}
    assert Counts(new=1, modified=2, obsolete=3, duplicates=4).messages == 10
