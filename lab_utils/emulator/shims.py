"""Standard modules as a handler sees them: copies with some names replaced.

Each function here gives the names that differ from the real module; `guest.py` decides which
module of a handler gets them.
"""

from __future__ import annotations

import calendar
import datetime
import errno
import inspect
import os
import random
import re
import secrets
import sys
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import boto3.session

ROOT = "/var/task"
"""Where Lambda unpacks a function's zip."""

Names = dict[str, Any]

HIDDEN_BUILTINS = ("display", "get_ipython", "__IPYTHON__")
"""What a notebook adds to the builtins; Lambda has none of it."""


class Shim(ModuleType):
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


def time_names(now: Callable[[], int], sleep: Callable[[float], None]) -> Names:
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


def datetime_names(now: Callable[[], int]) -> Names:
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


def os_names(environ: Environ, rng: random.Random) -> Names:
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


def random_names(rng: random.Random) -> Names:
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


def uuid_names(now: Callable[[], int], rng: random.Random) -> Names:
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


def secrets_names(rng: random.Random) -> Names:
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


def tailor_logging(log: Any, request_id: Callable[[], str]) -> None:
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


# --- what differs between machines ----------------------------------------------------------


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
