"""`python -m lab_utils`: a file for each command; its `add` declares it and its `run` does it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse.Action

__all__ = ["Commands"]
