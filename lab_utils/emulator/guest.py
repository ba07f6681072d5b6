"""What a handler's modules see: an execution environment's own clock, randomness, settings, boto3.

A handler is ordinary Python. The modules of its zip are loaded under an `__import__` of their own,
which gives them, in place of some standard modules, copies that know the lab: `time` and `datetime`
tell virtual time, `os.environ` is the function's, `random` and `uuid` are seeded, `logging` writes
Lambda's lines, boto3 reaches the lab. Everything else is the real library, and nothing is changed
for the rest of the process. A library that is not in the zip keeps real time.

The second half turns a function written in a notebook's cell into such a module.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import calendar
import copy
import dataclasses
import datetime
import errno
import importlib
import importlib.util
import inspect
import io
import linecache
import os
import posixpath
import random
import re
import secrets
import symtable
import sys
import sysconfig
import textwrap
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from functools import cached_property, lru_cache, partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType, TracebackType
from typing import Any

import boto3
import boto3.session
import botocore
import botocore.session

from lab_utils.emulator import sessions
from lab_utils.errors import LabError

ROOT = "/var/task"
"""Where Lambda unpacks a function's zip."""

Names = dict[str, Any]


# --- errors, as Lambda reports them ---------------------------------------------------------


class GuestError(Exception):
    """A function that cannot be loaded, in Lambda's words."""

    def __init__(self, error_type: str, message: str, stack_trace: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.error_type, self.message = error_type, message
        self.stack_trace = list(stack_trace)

    def payload(self, request_id: str) -> dict[str, Any]:
        """What Lambda answers to an invocation that met this."""
        return describe_error(self, request_id)


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


_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")


@lru_cache(maxsize=1)
def _machine_paths() -> list[tuple[str, str]]:
    """This machine's library folders and what they are called in Lambda, longest first."""
    library = "/var/lang/lib/python3"
    paths = sysconfig.get_paths()
    packages = (paths["purelib"], paths["platlib"], str(Path(boto3.__file__).parents[1]))
    known = dict.fromkeys((paths["stdlib"], paths["platstdlib"]), library)
    known |= dict.fromkeys(packages, library + "/site-packages")
    return sorted(known.items(), key=lambda item: -len(item[0]))


def scrub(text: str) -> str:
    """The text without what differs between machines and runs: library paths and addresses."""
    for real, virtual in _machine_paths():
        text = text.replace(real, virtual)
    return _ADDRESS.sub("at 0x...", text)


# --- the context object ---------------------------------------------------------------------


class _Identity:
    """Who called from a mobile app: nobody."""

    cognito_identity_id: str | None = None
    cognito_identity_pool_id: str | None = None

    def __repr__(self) -> str:
        return "CognitoIdentity([cognito_identity_id=None,cognito_identity_pool_id=None])"


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
        self.client_context = None
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


# --- shims: copies of real modules with some names replaced ---------------------------------


class _Shim(ModuleType):
    """A real module's names with some of them replaced.

    Names that the real module gets later, such as subpackages, are found through it.
    """

    def __init__(self, real: ModuleType, names: Names) -> None:
        super().__init__(real.__name__, real.__doc__)
        self.__dict__.update(vars(real))
        self.__dict__.update(names)
        self.__dict__["_lab_real"] = real

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self.__dict__["_lab_real"], name)
        except AttributeError:
            message = f"module {self.__name__!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=self) from None

    def __repr__(self) -> str:
        return f"<module {self.__name__!r}>"


def _time_names(now: Callable[[], int], sleep: Callable[[float], None]) -> Names:
    """`time`, as on a machine whose zone is UTC and whose monotonic clocks started just now."""
    born = now()

    def clock_names(name: str, read: Callable[[], int]) -> Names:
        return {name: lambda: read() / 1e6, f"{name}_ns": lambda: read() * 1000}

    def gmtime(seconds: float | None = None, /) -> time.struct_time:
        return time.gmtime(now() / 1e6 if seconds is None else seconds)

    def localtime(seconds: float | None = None, /) -> time.struct_time:
        zone = {"tm_zone": "UTC", "tm_gmtoff": 0}
        return time.struct_time(tuple(gmtime(seconds)), zone)

    def asctime(t: Any = None, /) -> str:
        return time.asctime(gmtime() if t is None else t)

    def strftime(form: str, t: Any = None, /) -> str:
        return time.strftime(form, localtime() if t is None else t)

    def checked_sleep(seconds: float, /) -> None:
        if not hasattr(seconds, "__float__") and not hasattr(seconds, "__index__"):
            kind = type(seconds).__name__
            raise TypeError(f"{kind!r} object cannot be interpreted as an integer")
        if seconds != seconds:
            raise ValueError("Invalid value NaN (not a number)")
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        sleep(float(seconds))

    def since_start() -> int:
        return now() - born

    def clock_gettime_ns(clock: int, /) -> int:
        return (now() if clock == 0 else since_start()) * 1000

    names = clock_names("time", now)
    for name in ("monotonic", "perf_counter", "process_time", "thread_time"):
        names |= clock_names(name, since_start)
    return names | {
        "sleep": checked_sleep,
        "gmtime": gmtime,
        "localtime": localtime,
        "asctime": asctime,
        "ctime": lambda seconds=None, /: time.asctime(gmtime(seconds)),
        "strftime": strftime,
        "mktime": lambda t, /: float(calendar.timegm(t)),
        "clock_gettime": lambda clock, /: clock_gettime_ns(clock) / 1e9,
        "clock_gettime_ns": clock_gettime_ns,
        "tzset": lambda: None,
        "tzname": ("UTC", "UTC"),
        "timezone": 0,
        "altzone": 0,
        "daylight": 0,
    }


class _StandsFor(type):
    """The type of a class that counts every instance of the class it stands for as its own."""

    def __instancecheck__(cls, instance: object) -> bool:
        real = cls.__dict__.get("_lab_real")
        return isinstance(instance, real) if real else type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        real = cls.__dict__.get("_lab_real")
        return issubclass(subclass, real) if real else type.__subclasscheck__(cls, subclass)


_UTC = datetime.timezone.utc  # noqa: UP017 - the singleton that every version has


def _datetime_names(now: Callable[[], int]) -> Names:
    """`datetime`, whose now is virtual and for which a naive time is in UTC.

    The instances are datetimes (and pickle as the usual ones) of a subclass, because Python's own
    would reckon `datetime.now().timestamp()` in the zone of the reader's machine.
    """

    class Date(datetime.date, metaclass=_StandsFor):
        _lab_real = datetime.date

        @classmethod
        def today(cls) -> Any:
            return cls.fromtimestamp(now() / 1e6)

        @classmethod
        def fromtimestamp(cls, timestamp: float, /) -> Any:
            day = datetime.datetime.fromtimestamp(timestamp, _UTC)
            return cls(day.year, day.month, day.day)

        def __repr__(self) -> str:
            return _plain_date(self).__repr__()

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _plain_date(self).__reduce_ex__(protocol)

    class DateTime(datetime.datetime, metaclass=_StandsFor):
        _lab_real = datetime.datetime

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            moment = _EPOCH + datetime.timedelta(microseconds=now())
            moment = moment.replace(tzinfo=None) if tz is None else moment.astimezone(tz)
            return cls.combine(moment.date(), moment.timetz())

        @classmethod
        def today(cls) -> Any:
            return cls.now()

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now()

        @classmethod
        def fromtimestamp(cls, timestamp: float, tz: datetime.tzinfo | None = None) -> Any:
            moment = super().fromtimestamp(timestamp, tz or _UTC)
            return moment.replace(tzinfo=None) if tz is None else moment

        @classmethod
        def utcfromtimestamp(cls, timestamp: float, /) -> Any:
            return cls.fromtimestamp(timestamp)

        def timestamp(self) -> float:
            aware = self if self.tzinfo else self.replace(tzinfo=_UTC)
            return super(DateTime, aware).timestamp()

        def astimezone(self, tz: datetime.tzinfo | None = None) -> Any:
            aware = self if self.tzinfo else self.replace(tzinfo=_UTC)
            return super(DateTime, aware).astimezone(tz or _UTC)

        def __repr__(self) -> str:
            return _plain(self).__repr__()

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _plain(self).__reduce_ex__(protocol)

    _name_like(Date, datetime.date)
    _name_like(DateTime, datetime.datetime)
    return {"date": Date, "datetime": DateTime}


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=_UTC)


def _plain(moment: datetime.datetime) -> datetime.datetime:
    return datetime.datetime.combine(_plain_date(moment), datetime.datetime.timetz(moment))


def _plain_date(day: datetime.date) -> datetime.date:
    return datetime.date(day.year, day.month, day.day)


def _name_like(shim: type, real: type) -> None:
    shim.__name__, shim.__qualname__, shim.__module__ = (
        real.__name__,
        real.__name__,
        real.__module__,
    )
    shim.__doc__ = real.__doc__


class Environ(MutableMapping[str, str]):
    """`os.environ` of one execution environment."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> str:
        return self._values[_checked_str(key)]

    def __setitem__(self, key: str, value: str) -> None:
        self._values[_checked_str(key)] = _checked_str(value)

    def __delitem__(self, key: str) -> None:
        del self._values[_checked_str(key)]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"environ({self._values!r})"

    def copy(self) -> dict[str, str]:
        return dict(self._values)

    def __or__(self, other: Mapping[str, str]) -> dict[str, str]:
        return self._values | dict(other)

    def __ror__(self, other: Mapping[str, str]) -> dict[str, str]:
        return dict(other) | self._values

    def __ior__(self, other: Mapping[str, str]) -> Environ:
        self.update(other)
        return self


def _checked_str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"str expected, not {type(value).__name__}")
    return value


def _refuse(*_: object) -> Any:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _leave(status: int = 1) -> Any:
    """`os._exit` and `os.abort` end a Lambda instance; here they must not end the notebook."""
    raise SystemExit(status)


def _os_names(environ: Environ, rng: random.Random) -> Names:
    """`os`, with the function's settings and nothing that tells about this machine."""
    pid = rng.randint(2, 32768)
    names: Names = {
        "environ": environ,
        "environb": {os.fsencode(k): os.fsencode(v) for k, v in environ.items()},
        "getenv": environ.get,
        "getenvb": lambda key, default=None: environ.get(os.fsdecode(key), default),
        "putenv": environ.__setitem__,
        "unsetenv": lambda key: environ.pop(key, None),
        "urandom": rng.randbytes,
        "getrandom": lambda size, flags=0: rng.randbytes(size),
        "getpid": lambda: pid,
        "getppid": lambda: 1,
        "getcwd": lambda: ROOT,
        "getcwdb": lambda: ROOT.encode(),
        "getlogin": lambda: "sbx_user1051",
        "cpu_count": lambda: 2,
        "process_cpu_count": lambda: 2,
        "uname": lambda: os.uname_result(("Linux", "169.254.0.1", "5.10", "#1 SMP", "x86_64")),
        "register_at_fork": lambda **_: None,
        "_exit": _leave,
        "abort": _leave,
    }
    return names | dict.fromkeys(("fork", "forkpty", "kill", "killpg"), _refuse)


def _random_names(rng: random.Random) -> Names:
    """`random`, whose every source of surprise is the instance's seed."""

    class Random(random.Random):
        def __init__(self, x: Any = None) -> None:
            super().__init__(rng.getrandbits(64) if x is None else x)

        def seed(self, a: Any = None, version: int = 2) -> None:
            super().seed(rng.getrandbits(64) if a is None else a, version)

    class SystemRandom(Random):
        def seed(self, *_: Any, **__: Any) -> None:
            super().seed()

    shared = Random()
    methods = [name for name in random.__all__ if inspect.ismethod(getattr(random, name))]
    names: Names = {name: getattr(shared, name) for name in methods}
    # these are functions of C in the real module, so that ismethod does not see them
    names |= {name: getattr(shared, name) for name in ("random", "getrandbits")}
    return names | {"Random": Random, "SystemRandom": SystemRandom, "_inst": shared}


def _uuid_names(now: Callable[[], int], rng: random.Random) -> Names:
    node = rng.getrandbits(48) | 0x010000000000

    def uuid1(node_given: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
        ticks = now() * 10 + 0x01B21DD213814000
        sequence = rng.getrandbits(14) if clock_seq is None else clock_seq
        fields = (
            ticks & 0xFFFFFFFF,
            ticks >> 32 & 0xFFFF,
            ticks >> 48 & 0x0FFF,
            sequence >> 8 & 0x3F,
            sequence & 0xFF,
            node if node_given is None else node_given,
        )
        return uuid.UUID(fields=fields, version=1)

    return {
        "uuid1": lambda node=None, clock_seq=None: uuid1(node, clock_seq),
        "uuid4": lambda: uuid.UUID(int=rng.getrandbits(128), version=4),
        "getnode": lambda: node,
    }


def _secrets_names(rng: random.Random) -> Names:
    def token_bytes(nbytes: int | None = None) -> bytes:
        return rng.randbytes(secrets.DEFAULT_ENTROPY if nbytes is None else nbytes)

    def token_urlsafe(nbytes: int | None = None) -> str:
        import base64

        return base64.urlsafe_b64encode(token_bytes(nbytes)).rstrip(b"=").decode()

    return {
        "token_bytes": token_bytes,
        "token_hex": lambda nbytes=None: token_bytes(nbytes).hex(),
        "token_urlsafe": token_urlsafe,
        "randbits": rng.getrandbits,
        "randbelow": lambda stop: rng.randrange(stop),
        "choice": rng.choice,
    }


class _Follow:
    """A stream that is always the present sys.stdout or sys.stderr."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(sys, self._name), name)


def _tailor_logging(log: Any, request_id: Callable[[], str]) -> None:
    """Give a private copy of `logging` the root handler that Lambda's runtime installs."""

    class LambdaHandler(log.Handler):  # type: ignore[misc]
        def emit(self, record: Any) -> None:
            sys.stdout.write(self.format(record))

    class LambdaFormatter(log.Formatter):  # type: ignore[misc]
        def formatException(self, exc_info: Any) -> str:  # noqa: N802 - logging's name
            return scrub(super().formatException(exc_info))

    def add_request_id(record: Any) -> bool:
        record.aws_request_id = request_id()
        return True

    _follow_streams(log.StreamHandler)
    log.captureWarnings = lambda capture: None  # would replace warnings.showwarning for everybody
    log.logAsyncioTasks = False  # a notebook's kernel runs in a task with a number
    log.Formatter.converter = time.gmtime
    form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    handler = LambdaHandler()
    handler.setFormatter(LambdaFormatter(form, "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(add_request_id)
    log.getLogger().addHandler(handler)


def _follow_streams(stream_handler: Any) -> None:
    """Handlers for stdout and stderr write to where these point when they write.

    Each invocation has its own; a handler made at the cold start would keep the first one's.
    """
    usual = stream_handler.__init__

    def init(self: Any, stream: Any = None) -> None:
        if stream is None or stream is sys.stderr:
            stream = _Follow("stderr")
        elif stream is sys.stdout:
            stream = _Follow("stdout")
        usual(self, stream)

    stream_handler.__init__ = init


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

_HIDDEN_BUILTINS = ("display", "get_ipython", "__IPYTHON__")
"""What a notebook adds to the builtins; Lambda has none of it."""


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
            "time": lambda: _Shim(time, _time_names(self._now, self._sleep)),
            "datetime": lambda: _Shim(datetime, _datetime_names(self._now)),
            "os": lambda: _Shim(os, _os_names(self._environ, self._rng)),
            "random": lambda: _Shim(random, _random_names(self._rng)),
            "uuid": lambda: _Shim(uuid, _uuid_names(self._now, self._rng)),
            "secrets": lambda: _Shim(secrets, _secrets_names(self._rng)),
            "atexit": lambda: _Shim(atexit, _atexit_names()),
            "dataclasses": lambda: _Shim(dataclasses, self._dataclasses_names()),
            "importlib": lambda: _Shim(importlib, {"import_module": self.import_module}),
            "logging": self._make_logging,
            "boto3": self._make_boto3,
            "boto3.session": self._make_boto3_session,
            "botocore": lambda: _Shim(botocore, {"session": self._shim("botocore.session")}),
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

    def close(self) -> None:
        """Forget the modules and their sources."""
        for filename, entry in self._zip.linecache_entries.items():
            if linecache.cache.get(filename) is entry:
                del linecache.cache[filename]
        self._modules.clear()
        self._shims.clear()
        self._clients.clear()

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
        names = {k: v for k, v in vars(builtins).items() if k not in _HIDDEN_BUILTINS}
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
        _tailor_logging(module, self._request_id)
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
        shim: Any = _Shim(boto3, names)
        return shim  # type: ignore[no-any-return]

    def _make_boto3_session(self) -> ModuleType:
        names = {"lab_session": self._session, "lab_clients": self._clients}
        kind = type("Session", (sessions.Boto3Session,), names | {"__module__": "boto3.session"})
        return _Shim(boto3.session, {"Session": kind})

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

        return _Shim(
            botocore.session,
            {"Session": Session, "get_session": lambda env_vars=None: Session(env_vars)},
        )


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


# --- a function of a cell as a module -------------------------------------------------------


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
_ALWAYS_THERE = (set(dir(builtins)) | _MODULE_NAMES) - set(_HIDDEN_BUILTINS)


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
