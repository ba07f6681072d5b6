"""What a handler's modules see: an execution environment's own clock, randomness, settings, boto3.

A handler is ordinary Python. The modules of its zip are loaded under an `__import__` of their own,
which gives them, in place of some standard modules, copies that know the lab (`shims.py`): `time`
and `datetime` tell virtual time, `os.environ` is the function's, `random` and `uuid` are seeded,
`logging` writes Lambda's lines, boto3 reaches the lab. Everything else is the real library, and
nothing is changed for the rest of the process. A library that is not in the zip keeps real time.
"""

from __future__ import annotations

import atexit
import builtins
import dataclasses
import datetime
import errno
import importlib
import importlib.util
import io
import linecache
import os
import posixpath
import random
import secrets
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType, SimpleNamespace, TracebackType
from typing import Any

import boto3
import boto3.session
import botocore
import botocore.session

from lab_utils.emulator import sessions
from lab_utils.emulator.shims import (
    HIDDEN_BUILTINS,
    ROOT,
    Environ,
    Names,
    Shim,
    datetime_names,
    os_names,
    random_names,
    scrub,
    secrets_names,
    tailor_logging,
    time_names,
    uuid_names,
)

# --- errors, as Lambda reports them ---------------------------------------------------------


class GuestError(Exception):
    """A function that cannot be loaded, in Lambda's words."""

    def __init__(self, error_type: str, message: str, stack_trace: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.error_type, self.message = error_type, message
        self.stack_trace = list(stack_trace)


def describe_error(exc: BaseException, request_id: str) -> dict[str, Any]:
    """The payload that Lambda answers for a handler's exception: the function's own frames only."""
    if isinstance(exc, GuestError):
        kind, message, trace = exc.error_type, exc.message, exc.stack_trace
    else:
        kind, message, trace = type(exc).__name__, _text_of(exc), _stack_trace(exc.__traceback__)
    return {
        "errorMessage": scrub(message),
        "errorType": kind,
        "requestId": request_id,
        "stackTrace": [scrub(entry) for entry in trace],
    }


def error_log(payload: Mapping[str, Any]) -> str:
    """The lines that Lambda's runtime writes into the function's log for an error payload."""
    head = " ".join(part for part in ("[ERROR]", payload["errorType"]) if part)
    message = payload["errorMessage"]
    lines = [f"{head}: {message}" if message else head, "Traceback (most recent call last):"]
    for entry in payload["stackTrace"]:
        for line in entry.splitlines():
            text = line.lstrip(" ")
            lines.append("\u00a0" * (len(line) - len(text)) + text)
    return "\n".join(lines) + "\n"


def _text_of(exc: BaseException) -> str:
    """str(exc); a `__str__` that fails is the handler's fault, not the lab's."""
    try:
        return str(exc)
    except Exception:
        return "<exception str() failed>"


def _stack_trace(tb: TracebackType | None) -> list[str]:
    frames = []
    for frame, line in traceback.walk_tb(tb):
        filename = frame.f_code.co_filename
        if filename.startswith(ROOT + "/"):
            text = _source_line(frame.f_globals, filename, line)
            frames.append((filename, line, frame.f_code.co_name, text))
    return traceback.StackSummary.from_list(frames).format()


def _source_line(module_globals: Names, filename: str, line: int) -> str:
    """The line as this very module has it: linecache knows one file of a name only."""
    loader = module_globals.get("__loader__")
    if isinstance(loader, _Zip):
        return loader.line(filename, line)
    return linecache.getline(filename, line)


# --- the context object ---------------------------------------------------------------------


class _Identity:
    """Who called from a mobile app: nobody."""

    cognito_identity_id: str | None = None
    cognito_identity_pool_id: str | None = None

    def __repr__(self) -> str:
        return "CognitoIdentity([cognito_identity_id=None,cognito_identity_pool_id=None])"


class _ClientContext:
    """What a caller told about itself: its own values, its surroundings, its app."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.custom, self.env = given.get("custom"), given.get("env")
        self.client = SimpleNamespace(**given["client"]) if given.get("client") else None


class Context:
    """The second argument of a handler."""

    def __init__(
        self,
        *,
        function_name: str,
        invoked_function_arn: str,
        memory_limit_in_mb: int | str,
        aws_request_id: str,
        log_group_name: str,
        log_stream_name: str,
        remaining: Callable[[], int],
        function_version: str = "$LATEST",
        client_context: Mapping[str, Any] | None = None,
    ) -> None:
        """`remaining()` is the number of milliseconds until the function times out."""
        self.function_name = function_name
        self.function_version = function_version
        self.invoked_function_arn = invoked_function_arn
        self.memory_limit_in_mb = str(memory_limit_in_mb)
        self.aws_request_id = aws_request_id
        self.log_group_name = log_group_name
        self.log_stream_name = log_stream_name
        self.identity = _Identity()
        self.client_context = _ClientContext(client_context) if client_context else None
        self.tenant_id = None
        self._remaining = remaining

    def get_remaining_time_in_millis(self) -> int:
        return max(0, self._remaining())

    def log(self, message: object) -> None:
        sys.stdout.write(str(message))

    def __repr__(self) -> str:
        shown = ("aws_request_id", "log_group_name", "log_stream_name", "function_name",
                 "memory_limit_in_mb", "function_version", "invoked_function_arn",
                 "client_context", "identity", "tenant_id")  # fmt: skip
        return f"LambdaContext([{','.join(f'{name}={getattr(self, name)}' for name in shown)}])"


# --- an execution environment's modules -----------------------------------------------------


class _Zip:
    """The loader that a zip's modules name: it knows their source."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.folders = {folder for path in self.files for folder in _parents(path)}

    def find(self, name: str) -> tuple[str, bool] | None:
        """The path of a module's source and whether it is a package."""
        base = name.replace(".", "/")
        if f"{base}/__init__.py" in self.files:
            return f"{base}/__init__.py", True
        return (f"{base}.py", False) if f"{base}.py" in self.files else None

    def is_folder(self, name: str) -> bool:
        return name.replace(".", "/") in self.folders

    def get_source(self, name: str) -> str | None:
        found = self.find(name)
        return None if found is None else importlib.util.decode_source(self.files[found[0]])

    def is_package(self, name: str) -> bool:
        found = self.find(name)
        return self.is_folder(name) if found is None else found[1]

    def get_data(self, path: str) -> bytes:
        try:
            return self.files[posixpath.relpath(path, ROOT)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def line(self, filename: str, number: int) -> str:
        lines = self._lines(filename)
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""

    def _lines(self, filename: str) -> list[str]:
        path = posixpath.relpath(filename, ROOT)
        source = self.files.get(path, b"")
        try:
            return importlib.util.decode_source(source).splitlines(keepends=True)
        except (SyntaxError, UnicodeDecodeError):
            return []

    @cached_property
    def linecache_entries(self) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for path, source in self.files.items():
            if path.endswith(".py"):
                filename = f"{ROOT}/{path}"
                entries[filename] = (len(source), None, self._lines(filename), filename)
        return entries


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


@lru_cache(maxsize=512)
def _compiled(filename: str, source: bytes) -> CodeType:
    """The instances of a function share its code."""
    return compile(source, filename, "exec", dont_inherit=True)


@lru_cache(maxsize=8)
def _library_code(name: str) -> tuple[ModuleSpec, CodeType]:
    spec = importlib.util.find_spec(name)
    loader: Any = spec and spec.loader
    assert spec is not None
    return spec, loader.get_code(name)


_PRIVATE = ("logging", "logging.config", "logging.handlers")
"""Library modules that are run again for each instance, because they are full of state."""


class GuestModules:
    """The modules of one execution environment: loaded once, as long-lived as the instance."""

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        environ: Mapping[str, str],
        now: Callable[[], int],
        sleep: Callable[[float], None],
        rng: random.Random,
        session: sessions.LabSession,
        request_id: Callable[[], str],
    ) -> None:
        """`now()` is virtual microseconds since the epoch; `sleep(seconds)` lets them pass."""
        self._zip = _Zip(files)
        self._environ, self._now, self._sleep, self._rng = Environ(environ), now, sleep, rng
        self._session, self._request_id = session, request_id
        self._modules: dict[str, ModuleType] = {}
        self._shims: dict[str, ModuleType] = {}
        self._clients: Names = {}
        self._builtins = self._make_builtins()
        self._makers: dict[str, Callable[[], ModuleType]] = {
            "time": lambda: Shim(time, time_names(self._now, self._sleep)),
            "datetime": lambda: Shim(datetime, datetime_names(self._now)),
            "os": lambda: Shim(os, os_names(self._environ, self._rng)),
            "random": lambda: Shim(random, random_names(self._rng)),
            "uuid": lambda: Shim(uuid, uuid_names(self._now, self._rng)),
            "secrets": lambda: Shim(secrets, secrets_names(self._rng)),
            "atexit": lambda: Shim(atexit, _atexit_names()),
            "dataclasses": lambda: Shim(dataclasses, self._dataclasses_names()),
            "importlib": lambda: Shim(importlib, {"import_module": self.import_module}),
            "logging": self._make_logging,
            "boto3": self._make_boto3,
            "boto3.session": self._make_boto3_session,
            "botocore": lambda: Shim(botocore, {"session": self._shim("botocore.session")}),
            "botocore.session": self._make_botocore_session,
        }

    # what the rest of the lab calls

    def load(self, module_name: str) -> ModuleType:
        """Import a module of the zip, running it in the caller's greenlet."""
        self.activate()
        return self.import_module(module_name)

    def lookup(self, handler_path: str) -> Callable[[Any, Any], Any]:
        """The handler that a path such as 'app.handler' names; GuestError in Lambda's words."""
        module_name, dot, name = handler_path.rpartition(".")
        if not dot:
            raise GuestError(
                "Runtime.MalformedHandlerName",
                f"Bad handler '{handler_path}': not enough values to unpack (expected 2, got 1)",
            )
        module = self._load_for_handler(module_name)
        try:
            handler: Callable[[Any, Any], Any] = getattr(module, name)
        except AttributeError:
            message = f"Handler '{name}' missing on module '{module_name}'"
            raise GuestError("Runtime.HandlerNotFound", message) from None
        return handler

    def activate(self) -> None:
        """Show these sources in tracebacks; functions share the name /var/task/app.py."""
        linecache.cache.update(self._zip.linecache_entries)

    def _load_for_handler(self, name: str) -> ModuleType:
        if name.split(".")[0] in sys.builtin_module_names:
            message = f"Cannot use built-in module {name} as a handler module"
            raise GuestError("Runtime.BuiltInModuleConflict", message)
        try:
            return self.load(name.replace("/", "."))
        except ImportError as e:
            message = f"Unable to import module '{name}': {_text_of(e)}"
            raise GuestError("Runtime.ImportModuleError", message) from e
        except SyntaxError as e:
            trace = [f'  File "{e.filename}" Line {e.lineno}\n    {(e.text or "").strip()}']
            message = f"Syntax error in module '{name}': {_text_of(e)}"
            raise GuestError("Runtime.UserCodeSyntaxError", message, trace) from e
        except Exception as e:
            trace = _stack_trace(e.__traceback__)
            raise GuestError(type(e).__name__, _text_of(e), trace) from e

    # importing

    def import_(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """`__import__` of the zip's modules."""
        full = _absolute(name, globals or {}, level) if level else name
        if not full:
            raise ValueError("Empty module name")
        root = full.partition(".")[0]
        if root in self._makers:
            return self._import_shimmed(full, fromlist)
        if not self._is_ours(root):
            return builtins.__import__(full, globals, locals, fromlist or (), 0)
        module = self._import_ours(full)
        if fromlist:
            return self._with_submodules(module, fromlist)
        if level:  # only a direct call of __import__ gets here
            return self._modules[full[: len(full) - len(name) + len(name.partition(".")[0])]]
        return self._modules[root]

    def import_module(self, name: str, package: str | None = None) -> ModuleType:
        """`importlib.import_module`."""
        if name.startswith("."):
            if not package:
                raise TypeError(
                    f"the 'package' argument is required to perform a relative import for {name!r}"
                )
            name = importlib.util.resolve_name(name, package)
        module: ModuleType = self.import_(name, fromlist=("__name__",))
        return module

    def _is_ours(self, root: str) -> bool:
        if root in self._modules or self._zip.find(root):
            return root not in sys.builtin_module_names
        return self._zip.is_folder(root) and importlib.util.find_spec(root) is None

    def _import_shimmed(self, full: str, fromlist: Sequence[str] | None) -> Any:
        """A shim, or a real part of the library that it stands for."""
        root = full.partition(".")[0]
        if full in _PRIVATE[1:]:
            self._library_copy(full)
        elif full not in self._makers:
            real = builtins.__import__(full, None, None, fromlist or ("__name__",), 0)
            if fromlist:
                return real
        if not fromlist:
            return self._shim(root)
        module = self._modules.get(full) or self._shim(full)
        self._load_real_submodules(module, full, fromlist)
        return module

    def _load_real_submodules(self, module: ModuleType, full: str, names: Iterable[str]) -> None:
        for name in names:
            part = f"{full}.{name}"
            if part in _PRIVATE:
                self._library_copy(part)
            elif name != "*" and not hasattr(module, name) and hasattr(module, "__path__"):
                builtins.__import__(full, None, None, (name,), 0)

    def _shim(self, name: str) -> ModuleType:
        if name not in self._shims:
            self._shims[name] = self._makers[name]()
        return self._shims[name]

    def _import_ours(self, name: str) -> ModuleType:
        if name in self._modules:
            return self._modules[name]
        parent = name.rpartition(".")[0]
        package = self._import_ours(parent) if parent else None
        if package is not None:
            if name in self._modules:
                return self._modules[name]
            if not hasattr(package, "__path__"):
                message = f"No module named {name!r}; {parent!r} is not a package"
                raise ModuleNotFoundError(message, name=name)
        return self._execute(name, package)

    def _execute(self, name: str, package: ModuleType | None) -> ModuleType:
        found = self._zip.find(name)
        if found is None and not self._zip.is_folder(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if found is None:  # a folder without __init__.py
            return self._run(self._new_module(name, None, is_package=True), None, package)
        filename, is_package = f"{ROOT}/{found[0]}", found[1]
        code = _compiled(filename, self._zip.files[found[0]])
        return self._run(self._new_module(name, filename, is_package=is_package), code, package)

    def _new_module(self, name: str, filename: str | None, *, is_package: bool) -> ModuleType:
        module = ModuleType(name)
        spec = ModuleSpec(name, self._zip, origin=filename, is_package=is_package)  # type: ignore[arg-type]
        names: Names = {
            "__builtins__": self._builtins,
            "__loader__": self._zip,
            "__spec__": spec,
            "__package__": name if is_package else name.rpartition(".")[0],
        }
        if filename is not None:
            names["__file__"] = filename
            spec.has_location = True
        if is_package:
            names["__path__"] = [f"{ROOT}/{name.replace('.', '/')}"]
            spec.submodule_search_locations = names["__path__"]
        vars(module).update(names)
        return module

    def _run(
        self, module: ModuleType, code: CodeType | None, package: ModuleType | None
    ) -> ModuleType:
        """Run a module's code, with the module known by then to those that import it in a circle.

        (Python finds it in sys.modules; ours find it in its package.)
        """
        name = module.__name__
        tail = name.rpartition(".")[2]
        self._modules[name] = module
        if package is not None:
            setattr(package, tail, module)
        try:
            if code is not None:
                exec(code, vars(module))
        except BaseException:
            self._modules.pop(name, None)
            if package is not None:
                vars(package).pop(tail, None)
            raise
        return self._modules[name]

    def _with_submodules(self, module: ModuleType, fromlist: Sequence[str]) -> ModuleType:
        if hasattr(module, "__path__"):
            names = getattr(module, "__all__", ()) if "*" in fromlist else fromlist
            for name in names:
                part = f"{module.__name__}.{name}"
                known = self._zip.find(part) or self._zip.is_folder(part)
                if name != "*" and not hasattr(module, name) and known:
                    self._import_ours(part)
        return module

    # what is special in here

    def _make_builtins(self) -> Names:
        names = {k: v for k, v in vars(builtins).items() if k not in HIDDEN_BUILTINS}
        return names | {"__import__": self.import_, "open": self._open, "input": _no_input}

    def _open(self, file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        """`open`, which reads the zip's files in /var/task, where nothing can be written."""
        if isinstance(file, int | bytes):
            return io.open(file, mode, *args, **options)  # noqa: UP020
        path = posixpath.normpath(posixpath.join(ROOT, os.fspath(file)))
        if not path.startswith(ROOT + "/"):
            return io.open(file, mode, *args, **options)  # noqa: UP020
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), file)
        raw = io.BytesIO(self._zip.get_data(path))
        if "b" in mode:
            return raw
        encoding = options.get("encoding") or "utf-8"
        return io.TextIOWrapper(raw, encoding, options.get("errors"), options.get("newline"))

    def _library_copy(self, name: str) -> ModuleType:
        """A library module run again for this instance alone."""
        if name in self._modules:
            return self._modules[name]
        parent = name.rpartition(".")[0]
        package = self._shim(parent) if parent else None
        spec, code = _library_code(name)
        module = ModuleType(name, None)
        vars(module).update(
            __builtins__=self._builtins, __spec__=spec, __loader__=spec.loader, __file__=spec.origin
        )
        vars(module)["__package__"] = spec.parent
        if spec.submodule_search_locations is not None:
            vars(module)["__path__"] = spec.submodule_search_locations
        return self._run(module, code, package)

    def _make_logging(self) -> ModuleType:
        module = self._library_copy("logging")
        tailor_logging(module, self._request_id)
        return module

    def _dataclasses_names(self) -> Names:
        """Dataclasses look their module up in sys.modules, where an instance's are not."""

        def decorated(cls: type, **options: Any) -> Any:
            name, missing = cls.__module__, object()
            before = sys.modules.get(name, missing)
            ours = self._modules.get(name)
            if ours is None:
                return dataclasses.dataclass(cls, **options)
            sys.modules[name] = ours
            try:
                return dataclasses.dataclass(cls, **options)
            finally:
                if before is missing:
                    del sys.modules[name]
                else:
                    sys.modules[name] = before  # type: ignore[assignment]

        def dataclass(cls: type | None = None, /, **options: Any) -> Any:
            return partial(decorated, **options) if cls is None else decorated(cls, **options)

        return {"dataclass": dataclass}

    def _make_boto3(self) -> ModuleType:
        session_module = self._shim("boto3.session")
        kind: Any = session_module.Session

        def setup_default_session(**options: Any) -> None:
            shim.DEFAULT_SESSION = kind(**options)

        def default() -> Any:
            if shim.DEFAULT_SESSION is None:
                setup_default_session()
            return shim.DEFAULT_SESSION

        names = {
            "Session": kind,
            "session": session_module,
            "DEFAULT_SESSION": None,
            "setup_default_session": setup_default_session,
            "_get_default_session": default,
            "client": lambda *args, **options: default().client(*args, **options),
            "resource": lambda *args, **options: default().resource(*args, **options),
            "set_stream_logger": lambda *args, **options: None,
        }
        shim: Any = Shim(boto3, names)
        return shim  # type: ignore[no-any-return]

    def _make_boto3_session(self) -> ModuleType:
        names = {"lab_session": self._session, "lab_clients": self._clients}
        kind = type("Session", (sessions.Boto3Session,), names | {"__module__": "boto3.session"})
        return Shim(boto3.session, {"Session": kind})

    def _make_botocore_session(self) -> ModuleType:
        session = self._session

        class Session(sessions.LabSession):
            def __init__(
                self,
                session_vars: Any = None,
                event_hooks: Any = None,
                include_builtin_handlers: bool = True,
                profile: str | None = None,
            ) -> None:
                super().__init__(**session.lab_options(), profile=profile)

        return Shim(
            botocore.session,
            {"Session": Session, "get_session": lambda env_vars=None: Session(env_vars)},
        )


def forget_sources() -> None:
    """The last lab is closed: tracebacks show no function any more."""
    for filename in [name for name in linecache.cache if name.startswith(ROOT + "/")]:
        del linecache.cache[filename]


def _atexit_names() -> Names:
    """Lambda runs no exit handlers, and these must not run when the notebook's kernel ends."""
    return {
        "register": lambda function, *args, **options: function,
        "unregister": lambda function: None,
    }


def _no_input(prompt: object = "") -> str:
    raise EOFError("EOF when reading a line")


def _absolute(name: str, module_globals: Mapping[str, Any], level: int) -> str:
    package = module_globals.get("__package__")
    if not package:
        raise ImportError("attempted relative import with no known parent package")
    parts = package.rsplit(".", level - 1)
    if len(parts) < level:
        raise ImportError("attempted relative import beyond top-level package")
    return f"{parts[0]}.{name}" if name else str(parts[0])
