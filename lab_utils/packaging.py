"""From a handler (a file, a text, a function of a cell) to the zip that Lambda runs."""

from __future__ import annotations

import ast
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from lab_utils.errors import LabError

RUNTIME = "python3.12"
"""The runtime that functions ask for. The embedded target runs them in the reader's own Python."""
ENTRY_POINTS = ("handler", "lambda_handler")
_ONE_BY_ONE = Lock()
"""Python 3.11 can't take sources apart in several threads: their depths get mixed up."""
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of a file inside a zip, so that the same code makes the same zip."""


@dataclass(frozen=True)
class Package:
    """A function's code, ready to be deployed on any target."""

    handler: str
    zip: bytes


def package(handler: Path | str | Callable[..., Any]) -> Package:
    """Zip a handler: a path to a Python file, its source text, or a function.

    The entry point of a file or a text is its function `handler` (or `lambda_handler`).
    """
    with _ONE_BY_ONE:
        return _package(handler)


def _package(handler: Path | str | Callable[..., Any]) -> Package:
    if callable(handler):
        from lab_utils.cells import cell_source

        return _zipped("app", cell_source(handler), handler.__name__)
    if isinstance(handler, str) and ("\n" in handler or "def " in handler):
        return _zipped("app", handler, _entry_point(handler, "the source text"))
    path = Path(handler)
    if not _is_file(path):
        raise LabError(
            f"There is no file {handler}: give deploy_function a path to a Python file, "
            "a source text with a function named handler, or a function."
        )
    source = path.read_text(encoding="utf-8")
    return _zipped(path.stem, source, _entry_point(source, path.name))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # what was meant as source text can be too long for a path
        return False


def _entry_point(source: str, where: str) -> str:
    try:
        tree = ast.parse(source)
    except SyntaxError as problem:
        raise LabError(
            f"{where}, line {problem.lineno}: {problem.msg}; mend it and deploy again."
        ) from None
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    names |= {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for name in ENTRY_POINTS:
        if name in names:
            return name
    raise LabError(f"{where} has no function named handler: define handler(event, context) in it.")


def _zipped(module: str, source: str, entry: str) -> Package:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        file = zipfile.ZipInfo(f"{module}.py", LONG_AGO)
        file.external_attr = 0o644 << 16
        archive.writestr(file, source)
    return Package(f"{module}.{entry}", buffer.getvalue())
