"""From a function in a notebook's cell to the text of a module that can be deployed."""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import linecache
import symtable
import textwrap
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any

from lab_utils.emulator.shims import HIDDEN_BUILTINS
from lab_utils.errors import LabError


def cell_source(function: Callable[..., Any]) -> str:
    """The text of a module in which `function` can be deployed.

    For a function of a notebook's cell, that is the cell without what only the notebook does:
    imports, constants, helpers and classes travel, on their old lines; magics, calls and variables
    that are made by calls do not, unless the function needs them. (Calls that set up logging do.)
    For a function of an ordinary file, nested in another one or not, it is the function with what
    it needs of the file's top level.

    What the function needs and its cell does not have is named in a LabError.
    """
    plain = _deployable(function)
    text = "".join(linecache.getlines(plain.__code__.co_filename))
    if not text:
        raise LabError(
            f"the source of {plain.__name__} is not known: define it in a file, or in a cell "
            "that does not begin with %%"
        )
    in_cell = _is_cell(plain)
    nested = "<locals>" in plain.__qualname__
    parts = _parts(text)
    if nested:
        own = textwrap.dedent(inspect.getsource(plain))
        return _slice(plain.__name__, text, parts, own, "cell" if in_cell else "file")
    kept = _needed(parts, {plain.__name__})
    if in_cell:
        kept = _settled(parts, kept)
    _check(plain.__name__, kept, parts, "cell" if in_cell else "file")
    return _blanked(text, parts, kept) if in_cell else _joined(text, kept)


def _deployable(function: Callable[..., Any]) -> FunctionType:
    """The function under its decorators, if it can be told apart from its surroundings."""
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType):
        raise LabError(
            f"a handler is a function, a path or source text, not {type(function).__name__}: "
            "write it with def"
        )
    if plain.__name__ == "<lambda>":
        raise LabError("a lambda has no name to deploy it by: write the handler with def")
    outside = ", ".join(plain.__code__.co_freevars)
    if outside:
        raise LabError(
            f"{plain.__name__} takes {outside} from the function around it, which is not deployed: "
            "define them at the top of its cell or inside it"
        )
    if "." in plain.__qualname__.rpartition("<locals>.")[2]:
        raise LabError(f"{plain.__qualname__} is a method: write the handler as a function")
    return plain


def _is_cell(function: FunctionType) -> bool:
    filename = function.__code__.co_filename
    return filename.startswith("<ipython-input") or "ipykernel_" in filename


_MODULE_NAMES = {
    "__name__",
    "__file__",
    "__doc__",
    "__package__",
    "__spec__",
    "__loader__",
    "__builtins__",
    "__annotations__",
}
_ALWAYS_THERE = (set(dir(builtins)) | _MODULE_NAMES) - set(HIDDEN_BUILTINS)


class _Part:
    """A statement of a module: the names that it makes, changes and reads there.

    `must` is what it reads without annotations that are never evaluated.
    """

    def __init__(self, node: ast.stmt, *, lazy_annotations: bool) -> None:
        self.node = node
        self.bound: set[str] = set()
        self.reads: set[str] = set()
        self._read_table(symtable.symtable(ast.unparse(node), "cell", "exec"), top=True)
        self.must = self.reads
        if lazy_annotations and not isinstance(node, ast.ImportFrom):
            bare = _WithoutAnnotations().visit(copy.deepcopy(node))
            self.reads, every = set(), self.reads
            self._read_table(symtable.symtable(ast.unparse(bare), "cell", "exec"), top=True)
            self.reads, self.must = every, self.reads
        outer = list(_outside_functions(node))
        self.changed = {name for inner in outer if (name := _changed_name(inner))}
        self.calls = any(isinstance(inner, ast.Call) for inner in outer)
        self.is_import = isinstance(node, ast.Import | ast.ImportFrom)
        self.is_definition = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        self.is_future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        self.imports_all = self.is_import and any(
            alias.name == "*"
            for alias in node.names  # type: ignore[attr-defined]
        )

    def _read_table(self, table: symtable.SymbolTable, *, top: bool) -> None:
        for symbol in table.get_symbols():
            here = top or symbol.is_global()
            made = symbol.is_assigned() or symbol.is_imported()
            if here and symbol.is_referenced():
                self.reads.add(symbol.get_name())
            if made and (top or symbol.is_declared_global()):
                self.bound.add(symbol.get_name())
        for child in table.get_children():
            self._read_table(child, top=False)

    @property
    def logger(self) -> str | None:
        """The name whose method this statement calls, if it is nothing but such a call."""
        if isinstance(self.node, ast.Expr) and isinstance(self.node.value, ast.Call):
            return _root(self.node.value.func)
        return None

    @property
    def makes_logger(self) -> bool:
        value = getattr(self.node, "value", None)
        return (
            isinstance(self.node, ast.Assign | ast.AnnAssign)
            and isinstance(value, ast.Call)
            and ast.unparse(value.func).rpartition(".")[2] == "getLogger"
        )

    @property
    def imports_logging(self) -> bool:
        return self.is_import and "logging" in self.bound


def _parts(text: str) -> list[_Part]:
    body = ast.parse(text).body
    lazy = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in body)
    return [_Part(node, lazy_annotations=lazy) for node in body]


class _WithoutAnnotations(ast.NodeTransformer):
    """Takes out what `from __future__ import annotations` leaves unevaluated."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the statement does: not the bodies of functions."""
    yield node
    for field, value in ast.iter_fields(node):
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if later and field == "body":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _outside_functions(child)


def _changed_name(node: ast.AST) -> str | None:
    """N, for a store into N[...] or N.attribute."""
    if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return _root(node)
    return None


def _root(node: ast.AST) -> str | None:
    """N, for N.a.b[...].c and N.a().b alike."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _needed(parts: list[_Part], names: set[str]) -> list[_Part]:
    """The statements that give these names their values, and what those need in turn."""
    wanted, chosen = set(names), {part for part in parts if part.is_future}
    loggers = {n for p in parts if p.makes_logger or p.imports_logging for n in p.bound}
    grown = True
    while grown:
        grown = False
        for part in parts:
            if part in chosen:
                continue
            if isinstance(part.node, ast.Expr):
                useful = part.logger in loggers & wanted
            else:
                useful = bool((part.bound | part.changed) & wanted) or part.imports_all
            if useful:
                chosen.add(part)
                wanted |= part.reads
                grown = True
    return [part for part in parts if part in chosen]


def _settled(parts: list[_Part], needed: list[_Part]) -> list[_Part]:
    """What is needed, with the rest of the cell that does no harm: it calls nothing, lacks nothing.

    Imports that nobody reads are left out: what they import need not be there in Lambda.
    """
    harmless = {
        part
        for part in parts
        if part.is_definition or not (part.calls or part.is_import or _is_bare(part))
    }
    kept = [part for part in parts if part in harmless or part in needed or part.is_import]
    while True:
        there = _names_of(kept)
        fine = [part for part in kept if part in needed or part.must <= there]
        if len(fine) == len(kept):
            break
        kept = fine
    read = {name for part in kept for name in part.reads}
    return [part for part in kept if not part.is_import or part in needed or part.bound & read]


def _is_bare(part: _Part) -> bool:
    """An expression or a statement without a value to keep, such as `assert` or `del`."""
    return not part.bound and not part.changed


def _names_of(parts: Iterable[_Part]) -> set[str]:
    return _ALWAYS_THERE.union(*(part.bound for part in parts))


def _check(name: str, kept: list[_Part], parts: list[_Part], place: str) -> None:
    """Refuse a function that reads what is not there, and say what that is."""
    if any(part.imports_all for part in kept):
        return
    missing = sorted({n for part in kept for n in part.must} - _names_of(kept))
    if not any(name in part.bound for part in parts):
        missing = [name]
    if missing:
        verb, them = ("is", "it") if len(missing) == 1 else ("are", "them")
        raise LabError(
            f"{name} uses {', '.join(missing)}, which {verb} not in its {place}: put {them} there"
        )


def _slice(name: str, text: str, parts: list[_Part], own: str, place: str) -> str:
    """A nested function's own text after what it needs of the top level around it."""
    lazy = any(part.is_future for part in parts)
    function = _Part(ast.parse(own).body[0], lazy_annotations=lazy)
    kept = [part for part in _needed(parts, function.reads) if name not in part.bound]
    _check(name, [*kept, function], [function], place)
    return (_joined(text, kept) + "\n\n" + own).lstrip("\n")


def _joined(text: str, kept: list[_Part]) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(_lines_of(part.node, lines) for part in kept)


def _lines_of(node: ast.stmt, lines: list[str]) -> str:
    """A statement's text; one that shares its line with another is written anew."""
    first, last = _span(node)
    alone = not lines[first - 1][: node.col_offset].strip() and not _after(node, lines[last - 1])
    if alone:
        space = "\n\n" if isinstance(node, ast.FunctionDef | ast.ClassDef) else ""
        return space + "".join(lines[first - 1 : last]).rstrip("\n") + "\n"
    return ast.unparse(node) + "\n"


def _after(node: ast.stmt, line: str) -> str:
    """What follows the statement on its last line, comments aside."""
    rest = line.encode()[node.end_col_offset :].decode().strip()
    return "" if rest.startswith("#") else rest


def _span(node: ast.stmt) -> tuple[int, int]:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return first, node.end_lineno or node.lineno


def _blanked(text: str, parts: list[_Part], kept: list[_Part]) -> str:
    """The text with the dropped statements blanked out, so that lines keep their numbers."""
    lines = text.splitlines(keepends=True)
    for part in reversed([part for part in parts if part not in kept]):
        first, last = _span(part.node)
        before = lines[first - 1].encode()[: part.node.col_offset].decode()
        after = lines[last - 1].encode()[part.node.end_col_offset or 0 :].decode()
        shared = before.strip() or _after(part.node, lines[last - 1])
        lines[first - 1 : last] = ["\n"] * (last - first + 1)
        if shared:
            lines[last - 1] = f"{before}pass{after}"
    return "".join(lines).rstrip() + "\n"
