"""Run notebooks, several at once: for the book, for the tests, and to accept new outputs.

``python tools/notebooks.py execute notebooks/*.ipynb`` fills the cache behind the book;
``python tools/notebooks.py accept notebooks/*.ipynb`` saves what the notebooks print and draw.

A page of the book whose cells run (``book/*.md`` with a kernel in its head) is a notebook, too. It
has no room for outputs: what its cells show is kept beside the tests, in ``tests/shown``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "_build" / ".jupyter_cache"  # where jupyter-book looks, too
SHOWN = ROOT / "tests" / "shown"  # what the cells of pages show, a file for each page
CELL_TIMEOUT = 120

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python"}  # without its version, which differs from reader to reader
FLEETING = {"collapsed", "execution", "ExecuteTime", "scrolled", "trusted"}


def read(path: Path) -> NotebookNode:
    """A notebook, or a page with cells as the book reads it."""
    if path.suffix == ".ipynb":
        return nbformat.read(path, as_version=4)
    return read_myst_markdown_notebook(path.read_text(encoding="utf-8"), MdParserConfig())


def run(path: Path, keep: Path | None = None, **env: str) -> NotebookNode:
    """Execute one notebook in a fresh kernel, in its own folder, and return it with outputs.

    `keep` is where it is written to even if a cell fails: as far as it came.
    """
    notebook = read(path)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name=KERNELSPEC["name"],
        coalesce_streams=True,
        record_timing=False,
        extra_arguments=["--log-level=40"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute(env={**os.environ, "LAB_PROGRESS": "0", **env})
    finally:
        if keep is not None:
            nbformat.write(notebook, keep)
    return normalised(notebook)


def normalised(notebook: NotebookNode) -> NotebookNode:
    """Leave out what says who ran the notebook, and when, rather than what it shows."""
    notebook.metadata.update(kernelspec=KERNELSPEC, language_info=LANGUAGE)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for key in FLEETING & cell.metadata.keys():
            del cell.metadata[key]
    return notebook


def execute(path: Path) -> str:
    """Put the executed notebook into the cache from which the book is built."""
    cache = get_cache(CACHE)
    try:
        cache.match_cache_notebook(read(path))
    except KeyError:
        pass
    else:
        return "as before"
    started = time.monotonic()
    notebook = run(path)
    bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": 0})
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    return f"{time.monotonic() - started:.1f} s"


def accept(path: Path) -> str:
    """Save the executed notebook in place of the committed one; of a page, what it shows."""
    executed = run(path)
    if path.suffix == ".ipynb":
        kept, after = path, nbformat.writes(executed).rstrip("\n") + "\n"
    else:
        kept, after = shown_file(path), shown(executed)
    if kept.exists() and kept.read_text(encoding="utf-8") == after:
        return "unchanged"
    kept.write_text(after, encoding="utf-8")
    return "CHANGED: read it with `git diff`"


def shown_file(page: Path) -> Path:
    """Where it is kept what the cells of a page show."""
    return SHOWN / f"{page.stem}.txt"


def shown(notebook: NotebookNode) -> str:
    """What each code cell shows, as text; a picture is named by what it says to the blind."""
    blocks = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        parts = []
        for output in cell.outputs:
            data = output.get("data", {})
            if any(kind.startswith("image/") for kind in data):
                parts.append(f"[{cell.metadata.mystnb.image.alt}]")
            else:
                parts.append(output.get("text") or data.get("text/plain", ""))
        title = f"In [{cell.execution_count}]: {cell.source.splitlines()[0]}"
        blocks.append("\n".join([title, *(part.rstrip() for part in parts)]))
    return "\n\n".join(blocks) + "\n"


def empty_stale_cache() -> None:
    """Forget executed notebooks when the code under them is another one."""
    lab = (path for path in (ROOT / "lab_utils").rglob("*") if path.suffix in (".py", ".json"))
    code = [ROOT / "requirements.lock", *sorted(lab)]
    digest = hashlib.sha256(sys.version.encode())
    for path in code:
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    key = CACHE.parent / ".jupyter_cache.key"
    if not key.exists() or key.read_text() != digest.hexdigest():
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        key.write_text(digest.hexdigest())
    get_cache(CACHE).list_cache_records()  # makes its tables before several threads would


def for_each(action: Callable[[Path], str], paths: Iterable[Path], workers: int) -> bool:
    """Do it to every notebook; say how each went, and whether all went well."""

    def attempt(path: Path) -> bool:
        try:
            print(f"{path.name}: {action(path)}", flush=True)
        except Exception as error:  # a cell's own, a timeout, a kernel that does not start
            print(f"{path.name}: FAILED\n{error}", file=sys.stderr, flush=True)
            return False
        return True

    with ThreadPoolExecutor(workers) as pool:
        return all(list(pool.map(attempt, paths)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["execute", "accept"])
    parser.add_argument("notebooks", nargs="+", type=lambda text: Path(text).resolve())
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    options = parser.parse_args()
    if options.action == "execute":
        empty_stale_cache()
    action = {"execute": execute, "accept": accept}[options.action]
    return 0 if for_each(action, options.notebooks, options.workers) else 1


if __name__ == "__main__":
    sys.exit(main())
