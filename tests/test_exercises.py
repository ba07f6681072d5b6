"""Questions from a seed: the same for the same seed, each with an answer that was run."""

from __future__ import annotations

import importlib
import random

import pytest

import lab_utils as lu
from lab_utils.errors import LabError
from lab_utils.exercises import TOPICS

SEEDS = range(4)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_seed_makes_one_question(topic: str) -> None:
    texts = [repr(lu.question(topic, seed)) for seed in range(30)]
    assert texts == [repr(lu.question(topic, seed)) for seed in range(30)]
    assert len(set(texts)) > 10, "fresh questions, not a handful"
    assert all("?" in text and max(map(len, text.splitlines())) <= 79 for text in texts)


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("seed", SEEDS)
def test_an_answer_is_run_and_checks(
    topic: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, again = lu.question(topic, seed), lu.question(topic, seed)
    found = asked.run()
    assert found == again.run()
    assert asked.check(found.value)
    assert not asked.check(object())
    asked.answer()
    assert capsys.readouterr().out.startswith(str(found.value))


@pytest.mark.parametrize("topic", TOPICS)
def test_answers_differ_from_seed_to_seed(topic: str) -> None:
    """One that always guesses the same is wrong now and then."""
    ask = importlib.import_module(f"lab_utils.exercises.{topic}").ask
    values = {str(ask(random.Random(seed)).run().value) for seed in range(8)}
    assert len(values) > 1


@pytest.mark.parametrize("wrong", [("sharks", 0), ("shards", "seven")])
def test_bad_questions_are_refused_in_a_sentence(wrong: tuple[str, int]) -> None:
    with pytest.raises(LabError, match=r"^[^\n]+\.$"):
        lu.question(*wrong)
