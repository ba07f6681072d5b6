"""Fresh questions from a seed: as many as you like, and each with an answer that was run.

    question = lu.question("shards", seed=7)
    question                 # shows the text
    question.check(28)       # right, or not yet
    question.answer()        # how it is, found by running it in a lab of its own

The same topic and seed make the same question. An answer is never looked up: `answer()` opens an
embedded lab, does what the question says, and reports what came out.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from textwrap import fill
from typing import Any

from lab_utils.errors import LabError

TOPICS = (
    "records",
    "writes",
    "partitions",
    "shards",
    "reading",
    "mappings",
    "parallelism",
    "failures",
    "kinesis",
    "leaving",
)
WIDTH = 76


@dataclass(frozen=True)
class Found:
    """What a question's run brought: the value asked for, and a sentence or two that explain it."""

    value: Any
    why: str


@dataclass(frozen=True)
class Question:
    """A question about a situation that was drawn from a seed."""

    text: str
    run: Callable[[], Found]
    """Does what the text says in a lab of its own. The same at every call."""

    @cached_property
    def _found(self) -> Found:
        return self.run()

    def check(self, guess: Any) -> bool:
        """Whether a guess is what the run shows."""
        return bool(guess == self._found.value)

    def answer(self) -> None:
        """Print what the run shows, and why."""
        print(f"{self._found.value}\n{fill(self._found.why, WIDTH)}")

    def __repr__(self) -> str:
        return "\n".join(fill(line, WIDTH) for line in self.text.splitlines())


def question(topic: str, seed: int = 0) -> Question:
    """A question about one of TOPICS; another seed, another question."""
    if topic not in TOPICS:
        raise LabError(f"There are no questions about {topic!r}: ask about {', '.join(TOPICS)}.")
    if not isinstance(seed, int):
        raise LabError(f"question({topic!r}, seed={seed!r}): give a whole number as the seed.")
    asked: Question = importlib.import_module(f"lab_utils.exercises.{topic}").ask(
        random.Random(f"{topic} {seed}")
    )
    return asked
