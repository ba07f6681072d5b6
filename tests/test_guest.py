"""What a handler's modules see, and what they leave alone."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import linecache
import logging
import os
import random
import socket
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse, HeadersDict

import lab_utils as lu
from lab_utils.cells import cell_source
from lab_utils.emulator import sessions
from lab_utils.emulator.guest import (
    Context,
    GuestError,
    GuestModules,
    describe_error,
    error_log,
)
from lab_utils.emulator.shims import scrub
from lab_utils.errors import LabError

START = 1_790_000_000_000_000  # 2026-09-21T14:13:20Z, in microseconds


class Raw(io.BytesIO):
    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


class Instance:
    """One execution environment, with a clock that its own sleep moves."""

    def __init__(
        self,
        *sources: str,
        environ: dict[str, str] | None = None,
        start: int = START,
        seed: int = 0,
        **files: str | bytes,
    ) -> None:
        self.clock, self.sent, self.bodies, self.regions = start, [], [], []
        self.slept: list[float] = []
        texts: dict[str, str | bytes] = {"app.py": "".join(map(textwrap.dedent, sources)), **files}
        rng = random.Random(seed)
        session = sessions.make_session(
            region="eu-central-1", send=self.send, wait=self.sleep, rng=rng
        )
        self.modules = GuestModules(
            {
                k: v if isinstance(v, bytes) else textwrap.dedent(v).encode()
                for k, v in texts.items()
            },
            environ=environ or {},
            now=lambda: self.clock,
            sleep=self.sleep,
            rng=rng,
            session=session,
            request_id=lambda: "request-1",
        )

    sent: list[str]
    bodies: list[Any]
    regions: list[str]

    def send(self, request: Any, event_name: str) -> AWSResponse:
        self.sent.append(event_name.partition(".")[2])
        self.bodies.append(request.body)
        self.regions.append(request.url.split(".")[1])
        return AWSResponse(request.url, 200, HeadersDict(), Raw(b'{"UnprocessedItems": {}}'))

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock += round(seconds * 1e6)

    def run(self, event: Any = None, handler: str = "app.handler") -> Any:
        return self.modules.lookup(handler)(event, None)

    def printed(self, event: Any = None) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            self.run(event)
        return out.getvalue()


def value(expression: str, imports: str = "", **options: Any) -> Any:
    """What an expression is inside a handler."""
    return Instance(
        f"{imports}\ndef handler(event, context):\n    return {expression}\n", **options
    ).run()


@pytest.fixture(autouse=True)
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# --- boto3 ----------------------------------------------------------------------------------

BOTO3_FORMS = {
    "client": "import boto3\ndef handler(e, c): boto3.client('dynamodb').list_tables()",
    "module-level client": """
        import boto3
        db = boto3.client('dynamodb', region_name='eu-central-1')
        def handler(e, c): db.list_tables()""",
    "resource": """
        import boto3
        def handler(e, c): list(boto3.resource('dynamodb').tables.all())""",
    "session": "import boto3\ndef handler(e, c): boto3.Session().client('dynamodb').list_tables()",
    "import boto3.session": """
        import boto3.session
        def handler(e, c): boto3.session.Session().client('dynamodb').list_tables()""",
    "import boto3.session as": """
        import boto3.session as s
        def handler(e, c): s.Session().client('dynamodb').list_tables()""",
    "from boto3 import client": """
        from boto3 import client
        def handler(e, c): client('dynamodb').list_tables()""",
    "from boto3 import resource": """
        from boto3 import resource
        def handler(e, c): resource('dynamodb').meta.client.list_tables()""",
    "from boto3 import session": """
        from boto3 import session
        def handler(e, c): session.Session().client('dynamodb').list_tables()""",
    "from boto3.session import Session": """
        from boto3.session import Session
        def handler(e, c): Session().client('dynamodb').list_tables()""",
    "from boto3 import *": """
        from boto3 import *
        def handler(e, c): client('dynamodb').list_tables()""",
    "late import": """
        def handler(e, c):
            import boto3 as b
            b.client('dynamodb').list_tables()""",
    "importlib": """
        import importlib
        def handler(e, c): importlib.import_module('boto3').client('dynamodb').list_tables()""",
    "importlib of a part": """
        from importlib import import_module
        s = import_module('boto3.session')
        def handler(e, c): s.Session().client('dynamodb').list_tables()""",
    "__import__": "def handler(e, c): __import__('boto3').client('dynamodb').list_tables()",
    "exec": """
        def handler(e, c): exec("import boto3; boto3.client('dynamodb').list_tables()")""",
    "botocore get_session": """
        import botocore.session
        def handler(e, c):
            botocore.session.get_session().create_client('dynamodb').list_tables()""",
    "botocore Session": """
        from botocore.session import Session
        def handler(e, c): Session().create_client('dynamodb').list_tables()""",
    "from botocore import session": """
        from botocore import session
        def handler(e, c): session.get_session().create_client('dynamodb').list_tables()""",
    "boto3 over botocore": """
        import boto3, botocore.session
        def handler(e, c):
            s = boto3.Session(botocore_session=botocore.session.get_session())
            s.client('dynamodb').list_tables()""",
    "paginator": """
        import boto3
        def handler(e, c):
            list(boto3.client('dynamodb').get_paginator('list_tables').paginate())""",
    "setup_default_session": """
        import boto3
        boto3.setup_default_session(region_name='eu-central-1')
        def handler(e, c): boto3.client('dynamodb').list_tables()""",
    "keys and endpoint": """
        import boto3
        def handler(e, c):
            boto3.client('dynamodb', endpoint_url='http://localhost.eu-central-1.x:4566',
                         aws_access_key_id='a', aws_secret_access_key='b').list_tables()""",
}


@pytest.mark.parametrize("form", BOTO3_FORMS)
def test_every_way_to_boto3_reaches_the_lab(form: str) -> None:
    guest = Instance(BOTO3_FORMS[form])
    guest.run()
    assert guest.sent == ["dynamodb.ListTables"]
    assert guest.regions == ["eu-central-1"]


def test_readers_boto3_is_untouched() -> None:
    client, session, get_session = boto3.client, boto3.DEFAULT_SESSION, botocore.session.get_session
    Instance(BOTO3_FORMS["setup_default_session"]).run()
    assert boto3.client is client
    assert boto3.DEFAULT_SESSION is session
    assert botocore.session.get_session is get_session


def test_table_with_conditions_and_exceptions() -> None:
    guest = Instance("""
        import boto3
        import boto3.dynamodb.conditions
        import botocore.exceptions
        from boto3.dynamodb import conditions
        from boto3.dynamodb.conditions import Attr, Key
        from boto3.dynamodb.types import TypeDeserializer
        from botocore.config import Config
        from botocore.exceptions import ClientError

        table = boto3.resource("dynamodb", config=Config(read_timeout=3)).Table("t")

        def handler(event, context):
            assert boto3.dynamodb.conditions is conditions and conditions.Key is Key
            assert botocore.exceptions.ClientError is ClientError
            table.put_item(Item={"k": "x", "n": 3}, ConditionExpression=Attr("k").not_exists())
            table.query(KeyConditionExpression=Key("k").eq("x"))
            with table.batch_writer() as batch:
                batch.put_item(Item={"k": "y"})
    """)
    guest.run()
    assert guest.sent == ["dynamodb.PutItem", "dynamodb.Query", "dynamodb.BatchWriteItem"]
    assert json.loads(guest.bodies[0])["Item"] == {"k": {"S": "x"}, "n": {"N": "3"}}


def test_clients_are_made_once_per_instance() -> None:
    source = """
        import boto3
        def handler(event, context):
            same = boto3.client("dynamodb"), boto3.Session().client("dynamodb")
            other = boto3.client("dynamodb", "us-east-1")
            tables = boto3.resource("dynamodb"), boto3.resource("dynamodb")
            return [same[0] is same[1], other is same[0], tables[0] is tables[1], same[0]]
    """
    one, two = Instance(source), Instance(source)
    first, second = one.run(), two.run()
    assert first[:3] == [True, False, True]
    assert first[3] is one.run()[3]
    assert first[3] is not second[3]


def test_region_of_a_session_counts() -> None:
    guest = Instance("""
        import boto3
        def handler(event, context):
            session = boto3.Session(region_name="us-west-2")
            session.client("dynamodb").list_tables()
            boto3.client("dynamodb").list_tables()
            assert isinstance(session, boto3.Session)
            return session.region_name, boto3.Session().region_name
    """)
    assert guest.run() == ("us-west-2", "eu-central-1")
    assert guest.regions == ["us-west-2", "eu-central-1"]


def test_profiles_do_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nonsense")
    Instance(BOTO3_FORMS["client"]).run()
    with pytest.raises(Exception, match=r"profile \(other\) could not be found"):
        value("boto3.Session(profile_name='other')", "import boto3")


def test_retries_of_a_guest_wait_with_its_sleep() -> None:
    guest = Instance(BOTO3_FORMS["client"])
    throttled = b'{"__type": "ThrottlingException"}'
    answers = [AWSResponse("", 400, HeadersDict(), Raw(throttled)) for _ in range(2)]
    usual = guest.send
    guest.modules._session._lab_send = lambda *args: answers.pop() if answers else usual(*args)
    guest.run()
    assert guest.slept == [0.05, 0.1]


# --- importing ------------------------------------------------------------------------------

PACKAGE: dict[str, Any] = {
    "shop/__init__.py": "from . import prices\nfrom .prices import PRICE\nNAME = __name__\n",
    "shop/prices.py": "PRICE = 3\nfrom .sub import deep\n",
    "shop/sub/__init__.py": "",
    "shop/sub/deep.py": "import shop\nfrom .. import prices\nDEEP = 'deep'\n",
    "shop/late.py": "LATE = 1\n",
    "helper.py": "import time\ndef now():\n    return time.time()\n",
    "plain/data.txt": "no module",
    "space/inner.py": "INNER = 1\n",
    "src/main.py": "def handler(event, context):\n    return __name__\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "expression", "result"),
    [
        ("import helper", "helper.now()", START / 1e6),
        ("import shop", "shop.PRICE", 3),
        ("import shop.sub.deep", "shop.sub.deep.DEEP", "deep"),
        ("import shop.sub.deep as d", "d.DEEP", "deep"),
        ("from shop import late", "late.LATE", 1),
        ("from shop import sub", "sub.deep.DEEP", "deep"),
        ("from shop.sub import deep", "deep.prices.PRICE", 3),
        ("from shop import *", "(PRICE, NAME)", (3, "shop")),
        ("import space.inner", "space.inner.INNER", 1),
        ("from space import inner", "inner.INNER", 1),
        ("import shop", "__import__('shop.sub.deep').__name__", "shop"),
        ("import shop", "__import__('shop.sub', fromlist=['deep']).__name__", "shop.sub"),
        ("import importlib", "importlib.import_module('.late', 'shop').LATE", 1),
        ("import importlib", "importlib.import_module('shop.sub.deep').DEEP", "deep"),
        ("import os.path", "os.path.join('a', 'b')", "a/b"),
        ("import os.path as p", "p.join('a', 'b')", "a/b"),
        ("from os.path import join", "join('a', 'b')", "a/b"),
        ("from os import path", "path.join('a', 'b')", "a/b"),
        ("import concurrent.futures", "concurrent.futures.__name__", "concurrent.futures"),
        ("import importlib.util", "importlib.util.find_spec('json').name", "json"),
        ("import xml.etree.ElementTree as ET", "ET.fromstring('<a/>').tag", "a"),
        ("from shop import prices, late", "(prices.PRICE, late.LATE)", (3, 1)),
        ("import decimal, base64, hashlib", "str(decimal.Decimal('1'))", "1"),
        ("import app", "app.__file__", "/var/task/app.py"),
    ],
)
def test_imports(statement: str, expression: str, result: Any) -> None:
    assert value(expression, statement, **PACKAGE) == result


def test_modules_of_two_instances_are_two() -> None:
    source = "import helper\ndef handler(event, context):\n    helper.n += 1\n    return helper.n\n"
    one, two = (Instance(source, **{"helper.py": "n = 0\n"}) for _ in range(2))
    assert [one.run(), one.run(), two.run()] == [1, 2, 1]
    assert not {"app", "helper"} & set(sys.modules)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import nowhere", "No module named 'nowhere'"),
        ("import shop.nowhere", "No module named 'shop.nowhere'"),
        ("from shop.nowhere import x", "No module named 'shop.nowhere'"),
        ("import helper.x", "No module named 'helper.x'; 'helper' is not a package"),
        ("import boto3.nowhere", "No module named 'boto3.nowhere'"),
        ("import shop_broken", "No module named 'inner_missing'"),
    ],
)
def test_missing_modules(statement: str, message: str) -> None:
    guest = Instance(
        f"try:\n    {statement}\nexcept ModuleNotFoundError as e:\n    caught = str(e), e.name\n"
        "def handler(event, context):\n    return caught\n",
        **PACKAGE,
        **{"shop_broken.py": "import inner_missing\n"},
    )
    text, name = guest.run()
    assert (text, name) == (message, message.split("'")[1])


def test_missing_names_and_relative_imports_out_of_a_package() -> None:
    with pytest.raises(ImportError, match="cannot import name 'nope' from 'shop'"):
        Instance("from shop import nope\n", **PACKAGE).modules.load("app")
    with pytest.raises(ImportError, match="no known parent package"):
        Instance("from . import nope\n").modules.load("app")
    files = {"shop/__init__.py": "", "shop/a.py": "from ... import b\n"}
    with pytest.raises(ImportError, match="beyond top-level package"):
        Instance("import shop.a\n", **files).modules.load("app")


def test_failed_module_is_tried_again() -> None:
    guest = Instance("import helper\ndef handler(e, c): return 1\n", **{"helper.py": "1/0"})
    for _ in range(2):
        with pytest.raises(GuestError, match="division by zero") as caught:
            guest.run()
        assert caught.value.error_type == "ZeroDivisionError"
        assert caught.value.stack_trace == [
            '  File "/var/task/app.py", line 1, in <module>\n    import helper\n',
            '  File "/var/task/helper.py", line 1, in <module>\n    1/0\n',
        ]


def test_circular_imports() -> None:
    guest = Instance(
        "import a\ndef handler(e, c): return a.b.value()\n",
        **{"a.py": "import b\nN = 4\n", "b.py": "import a\ndef value(): return a.N\n"},
    )
    assert guest.run() == 4


def test_handler_in_a_folder() -> None:
    assert Instance("", **PACKAGE).run(handler="src/main.handler") == "src.main"
    assert Instance("", **PACKAGE).run(handler="src.main.handler") == "src.main"


def test_boto3_in_the_zip_is_not_used() -> None:
    guest = Instance(BOTO3_FORMS["client"], **{"boto3/__init__.py": "raise SystemError"})
    guest.run()
    assert guest.sent == ["dynamodb.ListTables"]


def test_files_of_the_zip_can_be_read_and_not_written() -> None:
    source = """
        import json, os
        def handler(event, context):
            with open(os.path.join(os.path.dirname(__file__), "data/a.json")) as f:
                whole = json.load(f)
            with open("data/a.json", "rb") as f:
                raw = f.read()
            try:
                open("new.txt", "w")
            except OSError as e:
                return whole, raw, e.strerror
    """
    guest = Instance(source, **{"data/a.json": b"[1]"})
    assert guest.run() == ([1], b"[1]", "Read-only file system")
    with pytest.raises(FileNotFoundError):
        value("open('missing.txt')")


def test_notebooks_builtins_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.display", print, raising=False)
    with pytest.raises(NameError, match="display"):
        value("display(1)")
    with pytest.raises(EOFError):
        value("input()")


# --- handlers that cannot be loaded ---------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "path", "kind", "message"),
    [
        ("", "app", "Runtime.MalformedHandlerName",
         "Bad handler 'app': not enough values to unpack (expected 2, got 1)"),
        ("", "app.handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("", "nope.handler", "Runtime.ImportModuleError",
         "Unable to import module 'nope': No module named 'nope'"),
        ("import x_y", "app.handler", "Runtime.ImportModuleError",
         "Unable to import module 'app': No module named 'x_y'"),
        ("def handler(:", "app.handler", "Runtime.UserCodeSyntaxError",
         "Syntax error in module 'app': invalid syntax (app.py, line 1)"),
        ("", "time.sleep", "Runtime.BuiltInModuleConflict",
         "Cannot use built-in module time as a handler module"),
        ("raise ValueError('bad settings')", "app.handler", "ValueError", "bad settings"),
        ("import os; os.environ['TABLE']", "app.handler", "KeyError", "'TABLE'"),
    ],
)  # fmt: skip
def test_handlers_that_cannot_be_loaded(source: str, path: str, kind: str, message: str) -> None:
    with pytest.raises(GuestError) as caught:
        Instance(source).modules.lookup(path)
    assert (caught.value.error_type, caught.value.message) == (kind, message)
    payload = describe_error(caught.value, "r-1")
    assert (payload["errorType"], payload["errorMessage"]) == (kind, message)


def test_syntax_error_shows_the_line() -> None:
    with pytest.raises(GuestError) as caught:
        Instance("x = 1\ny = = 2\n").modules.lookup("app.handler")
    assert caught.value.stack_trace == ['  File "/var/task/app.py" Line 2\n    y = = 2']


def test_interrupt_while_loading_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        Instance("raise KeyboardInterrupt\n").modules.lookup("app.handler")


# --- time -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("tokyo")
@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("time.time()", 1_790_000_000.0),
        ("time.time_ns()", 1_790_000_000_000_000_000),
        ("time.perf_counter()", 0.0),
        ("time.monotonic_ns()", 0),
        ("time.process_time()", 0.0),
        ("time.clock_gettime(time.CLOCK_REALTIME)", 1_790_000_000.0),
        ("time.strftime('%Y-%m-%dT%H:%M:%S %Z')", "2026-09-21T14:13:20 UTC"),
        ("time.gmtime()[:6]", (2026, 9, 21, 14, 13, 20)),
        ("time.localtime()[:6]", (2026, 9, 21, 14, 13, 20)),
        ("time.localtime(0)[:6]", (1970, 1, 1, 0, 0, 0)),
        ("time.ctime()", "Mon Sep 21 14:13:20 2026"),
        ("time.asctime()", "Mon Sep 21 14:13:20 2026"),
        ("time.ctime(0)", "Thu Jan  1 00:00:00 1970"),
        ("time.mktime(time.localtime())", 1_790_000_000.0),
        ("(time.tzname, time.timezone)", (("UTC", "UTC"), 0)),
        ("datetime.datetime.now().isoformat()", "2026-09-21T14:13:20"),
        ("datetime.datetime.utcnow().isoformat()", "2026-09-21T14:13:20"),
        ("datetime.datetime.today().isoformat()", "2026-09-21T14:13:20"),
        ("datetime.datetime.now(datetime.timezone.utc).isoformat()", "2026-09-21T14:13:20+00:00"),
        ("datetime.datetime.now(tz=ZoneInfo('Asia/Tokyo')).isoformat()",
         "2026-09-21T23:13:20+09:00"),
        ("datetime.date.today().isoformat()", "2026-09-21"),
        ("datetime.date.fromtimestamp(0).isoformat()", "1970-01-01"),
        ("datetime.datetime.fromtimestamp(0).isoformat()", "1970-01-01T00:00:00"),
        ("datetime.datetime.utcfromtimestamp(0).isoformat()", "1970-01-01T00:00:00"),
        ("datetime.datetime.fromtimestamp(0, datetime.UTC).isoformat()",
         "1970-01-01T00:00:00+00:00"),
        ("datetime.datetime.now().timestamp()", 1_790_000_000.0),
        ("datetime.datetime(1970, 1, 1).timestamp()", 0.0),
        ("datetime.datetime.strptime('1970', '%Y').timestamp()", 0.0),
        ("datetime.datetime.now().astimezone().isoformat()", "2026-09-21T14:13:20+00:00"),
        ("(datetime.datetime.now() + datetime.timedelta(1)).timestamp()", 1_790_086_400.0),
        ("datetime.datetime.now().replace(year=1970, month=1, day=1).timestamp()", 51_200.0),
        ("repr(datetime.datetime.now())", "datetime.datetime(2026, 9, 21, 14, 13, 20)"),
        ("repr(datetime.date.today())", "datetime.date(2026, 9, 21)"),
        ("datetime.datetime.now() - datetime.datetime(2026, 9, 21)",
         datetime.timedelta(seconds=51_200)),
        ("type(datetime.datetime.now()) is datetime.datetime", True),
        ("datetime.datetime.__name__", "datetime"),
    ],
)  # fmt: skip
def test_time_is_virtual_and_in_utc(expression: str, result: Any) -> None:
    assert value(expression, "import time, datetime\nfrom zoneinfo import ZoneInfo") == result


def test_sleep_moves_the_clock() -> None:
    guest = Instance("""
        from time import perf_counter, sleep, time
        def handler(event, context):
            before = time(), perf_counter()
            sleep(0.25)
            sleep(3)
            return time() - before[0], perf_counter() - before[1]
    """)
    assert guest.run() == (3.25, 3.25)
    assert guest.slept == [0.25, 3.0]


@pytest.mark.parametrize(
    ("seconds", "error", "message"),
    [
        ("-1", ValueError, "sleep length must be non-negative"),
        ("float('nan')", ValueError, "Invalid value NaN"),
        ("'1'", TypeError, "'str' object cannot be interpreted as an integer"),
        ("None", TypeError, "'NoneType' object cannot be interpreted as an integer"),
    ],
)
def test_sleep_refuses_what_time_refuses(
    seconds: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        value(f"time.sleep({seconds})", "import time")


def test_datetimes_are_datetimes_both_ways() -> None:
    guest = Instance("""
        import datetime, pickle, copy
        from datetime import datetime as D, date
        def handler(real, context):
            now = D.now()
            class Mine(D): pass
            return {
                "now": now, "today": date.today(), "aware": D.now(datetime.timezone.utc),
                "checks": [isinstance(real, D), isinstance(real, date), isinstance(now, date),
                           isinstance(real.date(), D), isinstance("x", D), issubclass(D, date),
                           isinstance(now, Mine), isinstance(Mine.now(), Mine)],
                "equal": now == real, "hash": hash(now) == hash(real), "late": now - real,
                "pickle": pickle.dumps([now, D.now(datetime.timezone.utc), date.today()]),
                "copy": copy.deepcopy(now),
            }
    """)
    real = datetime.datetime(2026, 9, 21, 14, 13, 20)
    got = guest.run(real)
    assert got["checks"] == [True, True, True, False, False, True, False, True]
    assert isinstance(got["now"], datetime.datetime)
    assert isinstance(got["today"], datetime.date)
    assert got["equal"]
    assert got["hash"]
    assert got["late"] == datetime.timedelta()
    import pickle

    naive, aware, day = pickle.loads(got["pickle"])
    assert (type(naive), type(aware), type(day)) == (
        datetime.datetime, datetime.datetime, datetime.date,
    )  # fmt: skip
    assert naive == real == got["copy"]
    assert aware == got["aware"] == real.replace(tzinfo=datetime.UTC)


def test_boto3_takes_the_handlers_datetimes() -> None:
    guest = Instance("""
        import boto3
        from datetime import datetime, timezone
        def handler(event, context):
            boto3.client("kinesis").get_shard_iterator(
                StreamName="s", ShardId="shardId-0", ShardIteratorType="AT_TIMESTAMP",
                Timestamp=datetime.now(timezone.utc))
    """)
    guest.run()
    assert json.loads(guest.bodies[0])["Timestamp"] == 1_790_000_000


# --- settings, randomness, ids --------------------------------------------------------------


def test_environment_is_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READERS", "secret")
    guest = Instance(
        """
        import os
        from os import environ, getenv
        def handler(event, context):
            os.environ["NEW"] = "1"
            os.putenv("PUT", "2")
            absent = getenv("NOPE", "x"), os.environ.get("NOPE"), "READERS" in os.environ
            return dict(environ), getenv("TABLE"), absent, os.environb
        """,
        environ={"TABLE": "t"},
    )
    seen, table, absent, raw = guest.run()
    assert seen == {"TABLE": "t", "NEW": "1", "PUT": "2"}
    assert (table, absent) == ("t", ("x", None, False))
    assert raw == {b"TABLE": b"t"}
    assert not {"NEW", "PUT", "TABLE"} & set(os.environ)
    with pytest.raises(KeyError, match="NOPE"):
        value("os.environ['NOPE']", "import os")
    with pytest.raises(TypeError, match="str expected, not int"):
        value("os.environ.__setitem__('A', 1)", "import os")


def test_os_says_nothing_about_this_machine() -> None:
    expression = "[os.getcwd(), os.cpu_count(), os.uname().sysname, os.getpid()]"
    here = value(expression, "import os")
    assert here[:3] == ["/var/task", 2, "Linux"]
    assert here[3] != os.getpid()
    for call in ("os.kill(os.getpid(), 9)", "os.fork()"):
        with pytest.raises(PermissionError):
            value(call, "import os")
    with pytest.raises(SystemExit):
        value("os._exit(1)", "import os")


RANDOM = """
    import os, random, secrets, uuid
    from random import choice, randint
    def handler(event, context):
        own = random.Random()
        return [random.random(), randint(1, 10**9), choice(range(10**9)), own.random(),
                random.Random(5).random(), str(uuid.uuid4()), str(uuid.uuid1()), os.urandom(8),
                secrets.token_hex(8), random.SystemRandom().random(), random.sample(range(99), 3),
                uuid.getnode(), random.getrandbits(40), secrets.randbelow(10**9)]
"""


def test_randomness_comes_from_the_seed() -> None:
    one, again, other = (Instance(RANDOM, seed=seed).run() for seed in (1, 1, 2))
    assert one == again
    fixed = {4}  # Random(5) is Python's own
    assert {n for n in range(len(one)) if one[n] == other[n]} == fixed
    assert one[4] == random.Random(5).random()
    assert (uuid.UUID(one[5]).version, uuid.UUID(one[6]).version) == (4, 1)
    ticks = uuid.UUID(one[6]).time - 0x01B21DD213814000
    assert ticks == START * 10


def test_process_randomness_is_untouched() -> None:
    random.seed(7)
    state = random.getstate()
    Instance("import random\nrandom.seed(1)\n" + textwrap.dedent(RANDOM)).run()
    assert random.getstate() == state


def test_reseeding_in_a_handler_works() -> None:
    expression = "(random.seed(3), random.random())[1]"
    assert value(expression, "import random") == random.Random(3).random()
    assert value("(random.seed(), random.random())[1]", "import random", seed=1) == value(
        "(random.seed(), random.random())[1]", "import random", seed=1
    )


def test_two_guests_do_not_see_each_other() -> None:
    source = """
        import os, random, time, uuid
        state = []
        def handler(event, context):
            state.append(event)
            os.environ["LAST"] = event
            return time.time(), os.environ["NAME"], random.random(), len(state), os.environ["LAST"]
    """
    one = Instance(source, environ={"NAME": "one"}, seed=1)
    two = Instance(source, environ={"NAME": "two"}, seed=2, start=START + 5_000_000)
    first, second, third = one.run("a"), two.run("b"), one.run("c")
    assert (first[0], second[0]) == (START / 1e6, START / 1e6 + 5)
    assert (first[1], second[1]) == ("one", "two")
    assert first[2] != second[2]
    assert (first[3], second[3], third[3]) == (1, 1, 2)
    assert (first[4], second[4], third[4]) == ("a", "b", "c")


def test_process_modules_are_untouched() -> None:
    watched = (time, datetime, os, random, uuid, logging, boto3, botocore.session, sys)
    before = [dict(vars(module)) for module in watched]
    modules, builtin_import = set(sys.modules), __import__
    Instance(RANDOM, "\nimport time, datetime, logging, boto3, botocore.session, atexit\n").run()
    after = [dict(vars(module)) for module in watched]
    for module, old, new in zip(watched, before, after, strict=True):
        assert {k for k in new if new[k] is not old.get(k)} == set(), module.__name__
    assert __import__ is builtin_import
    assert not {"app"} & (set(sys.modules) - modules)


# --- logging --------------------------------------------------------------------------------


def test_logging_writes_lambdas_lines() -> None:
    guest = Instance("""
        import logging
        logger = logging.getLogger()
        logger.setLevel(logging.INFO)
        named = logging.getLogger(__name__)
        def handler(event, context):
            logger.info("hello %s", "you")
            named.warning("careful")
            named.debug("hidden")
            print("plain")
            logging.error("late")
    """)
    assert guest.printed() == (
        "[INFO]\t2026-09-21T14:13:20.000Z\trequest-1\thello you\n"
        "[WARNING]\t2026-09-21T14:13:20.000Z\trequest-1\tcareful\n"
        "plain\n"
        "[ERROR]\t2026-09-21T14:13:20.000Z\trequest-1\tlate\n"
    )


def test_info_is_hidden_by_default_and_basic_config_does_nothing() -> None:
    guest = Instance("""
        import logging
        logging.basicConfig(level=logging.DEBUG)
        def handler(event, context):
            logging.info("hidden")
            logging.warning("shown")
    """)
    assert guest.printed() == "[WARNING]\t2026-09-21T14:13:20.000Z\trequest-1\tshown\n"


def test_logged_exception_shows_the_functions_lines_and_no_machine_paths() -> None:
    guest = Instance("""
        import json, logging
        def handler(event, context):
            try:
                json.loads("{")
            except ValueError:
                logging.exception("bad")
    """)
    text = guest.printed()
    assert text.startswith("[ERROR]\t2026-09-21T14:13:20.000Z\trequest-1\tbad\nTraceback")
    assert '  File "/var/task/app.py", line 5, in handler\n    json.loads("{")' in text
    assert "/var/lang/lib/python3/json/" in text
    assert str(Path(os.__file__).parent) not in text


def test_handlers_follow_the_streams_of_the_invocation() -> None:
    guest = Instance("""
        import logging, sys
        own = logging.getLogger("own")
        own.propagate = False
        own.addHandler(logging.StreamHandler(sys.stdout))
        own.addHandler(logging.StreamHandler())
        def handler(event, context):
            own.warning(event)
    """)
    assert [guest.printed("one"), guest.printed("two")] == ["one\none\n", "two\ntwo\n"]


def test_logging_of_guests_and_process_is_apart() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), set(logging.Logger.manager.loggerDict))
    known = len(logging._handlers)
    source = """
        import logging, logging.config, logging.handlers
        from logging.handlers import MemoryHandler
        from logging import handlers, getLogger
        getLogger("guests.own").setLevel("DEBUG")
        logging.getLogger().setLevel("DEBUG")
        logging.captureWarnings(True)
        def handler(event, context):
            logging.config.dictConfig({"version": 1, "root": {"level": "ERROR"}})
            assert issubclass(MemoryHandler, logging.Handler)
            assert handlers.MemoryHandler is MemoryHandler
            return logging.getLogger().level, logging.getLogger("guests.own"), logging.root
    """
    one, two = Instance(source), Instance(source)
    level, logger, guest_root = one.run()
    assert level == logging.ERROR
    assert logger is not two.run()[1]
    assert guest_root is not root
    after = (root.level, list(root.handlers), set(logging.Logger.manager.loggerDict))
    assert after == before
    assert len(logging._handlers) == known
    import warnings

    assert warnings.showwarning.__module__ != "logging"


# --- errors ---------------------------------------------------------------------------------


def raised(guest: Instance, event: Any = None) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any
        guest.run(event)
    return caught.value


FAILING = """
    import json
    class Problem(Exception):
        pass
    def inner(x):
        raise Problem(f"no {x}")
    def handler(event, context):
        return [inner(e) for e in
                [event]]
"""


def test_error_payload() -> None:
    payload = describe_error(raised(Instance(FAILING), "luck"), "r-1")
    trace = payload.pop("stackTrace")
    assert payload == {"errorMessage": "no luck", "errorType": "Problem", "requestId": "r-1"}
    assert trace[0] == (
        '  File "/var/task/app.py", line 8, in handler\n    return [inner(e) for e in\n'
    )
    assert trace[-1] == (
        '  File "/var/task/app.py", line 6, in inner\n    raise Problem(f"no {x}")\n'
    )


def test_error_payload_has_the_functions_frames_only() -> None:
    guest = Instance("import json\ndef handler(event, context):\n    return json.loads('{')\n")
    assert describe_error(raised(guest), "r")["stackTrace"] == [
        "  File \"/var/task/app.py\", line 3, in handler\n    return json.loads('{')\n"
    ]


def test_error_payload_shows_the_lines_of_the_very_function() -> None:
    one = Instance("def handler(event, context):\n    return event['one']\n")
    two = Instance("def handler(event, context):\n    return event['two']\n")
    first = raised(one, {})
    second = raised(two, {})
    for error, name in ((first, "one"), (second, "two")):
        assert f"return event['{name}']" in describe_error(error, "r")["stackTrace"][0]


def test_error_payload_tells_nothing_of_this_machine() -> None:
    guest = Instance("def handler(event, context):\n    raise ValueError(f'{object()} {event}')\n")
    message = describe_error(raised(guest, json.__file__), "r")["errorMessage"]
    assert message == "<object object at 0x...> /var/lang/lib/python3/json/__init__.py"
    assert scrub(boto3.__file__) == "/var/lang/lib/python3/site-packages/boto3/__init__.py"


def test_error_whose_text_fails() -> None:
    guest = Instance(
        "class E(Exception):\n    def __str__(self): raise OSError\n"
        "def handler(event, context):\n    raise E\n"
    )
    assert describe_error(raised(guest), "r")["errorMessage"] == "<exception str() failed>"


def test_deep_recursion_is_folded() -> None:
    guest = Instance("def handler(event, context):\n    return handler(event, context)\n")
    trace = describe_error(raised(guest), "r")["stackTrace"]
    assert len(trace) < 10
    assert "Previous line repeated" in trace[-1]


def test_error_log() -> None:
    payload = describe_error(raised(Instance(FAILING), "luck"), "r-1")
    lines = error_log(payload).splitlines()
    assert lines[:2] == ["[ERROR] Problem: no luck", "Traceback (most recent call last):"]
    assert lines[-1] == '\u00a0\u00a0\u00a0\u00a0raise Problem(f"no {x}")'


def test_traceback_module_shows_source_until_the_last_lab_closes() -> None:
    guest = Instance("""
        import traceback
        def handler(event, context):
            try:
                event["nope"]
            except KeyError:
                return traceback.format_exc()
    """)
    assert 'event["nope"]' in guest.run({})
    other = Instance("def handler(event, context): pass\n")
    other.run()
    guest.modules.activate()
    assert 'event["nope"]' in guest.run({})
    with lu.open_lab("embedded"):
        lu.open_lab("embedded").close()
        assert "/var/task/app.py" in linecache.cache
    assert "/var/task/app.py" not in linecache.cache


def test_dataclasses_with_text_annotations() -> None:
    before = set(sys.modules)
    assert (
        value(
            "(Point(1, 2), Point.count, Named('x'))",
            """from __future__ import annotations
import dataclasses
from dataclasses import dataclass, field, asdict
from typing import ClassVar
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 0
    count: ClassVar[int] = 7
@dataclasses.dataclass
class Named:
    name: str
""",
        ).__repr__()
        == "(Point(x=1, y=2), 7, Named(name='x'))"
    )
    assert "app" not in set(sys.modules) - before


def test_library_is_the_real_one() -> None:
    guest = Instance("""
        import base64, collections, concurrent.futures, decimal, enum, functools, hashlib, json, re
        def square(n): return n * n
        class Colour(enum.Enum): RED = 1
        def handler(event, context):
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                squares = list(pool.map(square, range(4)))
            return [squares, hashlib.md5(b"x").hexdigest(), base64.b64encode(b"x").decode(),
                    json.dumps({"a": 1}), Colour.RED.name, collections.Counter("aab")["a"]]
    """)
    assert guest.run() == [
        [0, 1, 4, 9], "9dd4e461268c8034f5c8564e155c67a6", "eA==", '{"a": 1}', "RED", 2,
    ]  # fmt: skip


# --- the context object ---------------------------------------------------------------------


def test_context() -> None:
    clock = [START]
    context = Context(
        function_name="f",
        invoked_function_arn="arn:f",
        memory_limit_in_mb=128,
        aws_request_id="r",
        log_group_name="/aws/lambda/f",
        log_stream_name="s",
        remaining=lambda: (START + 3_000_000 - clock[0]) // 1000,
    )
    assert context.get_remaining_time_in_millis() == 3000
    clock[0] += 1_250_000
    assert context.get_remaining_time_in_millis() == 1750
    clock[0] += 9_000_000
    assert context.get_remaining_time_in_millis() == 0
    assert context.memory_limit_in_mb == "128"
    assert context.function_version == "$LATEST"
    assert context.client_context is None
    assert context.identity.cognito_identity_id is None
    assert "0x" not in repr(context)
    assert "aws_request_id=r," in repr(context)


# --- functions of cells ---------------------------------------------------------------------


def in_cell(text: str, name: str = "handler", **given: Any) -> Callable[..., Any]:
    """A function as a notebook's cell defines it."""
    text = textwrap.dedent(text)
    filename = f"<ipython-input-{abs(hash(text))}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    names: dict[str, Any] = {"__name__": "__main__", **given}
    exec(compile(text, filename, "exec"), names)
    found: Callable[..., Any] = names[name]
    return found


def deployed(source: str, event: Any = None) -> Any:
    return Instance(**{"app.py": source}).run(event)


def test_whole_cell_travels() -> None:
    source = cell_source(in_cell("""
        import json
        from collections import Counter

        RATE = 3
        unused = [1, 2]

        class Price:
            def __init__(self, n): self.n = n * RATE

        def helper(n):
            # a comment stays
            return Price(n).n

        def handler(event, context):
            return json.dumps(helper(event))
    """))  # fmt: skip
    assert deployed(source, 5) == "15"
    assert "# a comment stays" in source
    assert "unused = [1, 2]" in source
    assert "Counter" not in source  # imports that nothing reads do not travel


def test_what_only_the_notebook_does_stays() -> None:
    class Lab:
        def deploy(self, *_: Any) -> str:
            return "arn"

    shown: list[Any] = []
    source = cell_source(in_cell(
        """
        import json
        show("x")
        def handler(event, context):
            return [json.loads(event), RATE]
        RATE = 4; show(RATE)
        show(1); KEPT = 5
        arn = lab.deploy("f", handler)
        def plot(): return lab.figure()
        for n in range(3): show(n)
        if arn: show(arn)
        handler("1", None)
        """,
        lab=Lab(), show=shown.append,
    ))  # fmt: skip
    assert deployed(source, "1") == [1, 4]
    assert "lab" not in source
    assert "show" not in source
    assert "KEPT = 5" in source


def test_lines_keep_their_numbers() -> None:
    function = in_cell("""
        print

        print

        def handler(event, context):
            raise ValueError
    """)
    guest = Instance(**{"app.py": cell_source(function)})
    assert "line 7, in handler" in describe_error(raised(guest), "r")["stackTrace"][0]
    assert function.__code__.co_firstlineno == 6


def test_later_values_do_not_travel() -> None:
    function = in_cell("RATE = 3\ndef handler(event, context):\n    return RATE\n")
    function.__globals__["RATE"] = 4
    assert deployed(cell_source(function)) == 3


LACKING = {
    "def handler(e, c): return helper(json, RATE, len(e), __name__)": "RATE, helper, json",
    "def handler(e, c): return RATE": "RATE",
    "def helper(): return RATE\ndef handler(e, c): return helper()": "RATE",
    "def handler(e, c):\n    class A:\n        x = 1\n        y = x + Z\n    return A": "Z",
    "def handler(e, c, n=Z): return [q for q in e]": "Z",
    "@Z\ndef handler(e, c): return 1": "Z",
    "def handler(e, c): display(e)": "display",
    "table = lab\ndef handler(e, c): return table": "lab",
}


@pytest.mark.parametrize("body", LACKING)
def test_missing_names_are_named(body: str) -> None:
    verb, them = ("are", "them") if "," in LACKING[body] else ("is", "it")
    message = f"handler uses {LACKING[body]}, which {verb} not in its cell: put {them} there"
    with pytest.raises(LabError, match=f"^{message}$"):
        cell_source(in_cell(body, lab=None, Z=lambda f: f))


CELLS = {
    "global": """
        COUNT = 0
        def handler(e, c):
            global COUNT
            COUNT += 1
            return COUNT""",
    "fallback import": """
        try:
            import nowhere as x
        except ImportError:
            x = 1
        def handler(e, c): return x""",
    "filled table": """
        TABLE = {}
        TABLE["a"] = 1
        for n in "b": TABLE[n] = 0
        def handler(e, c): return TABLE["a"] + TABLE["b"]""",
    "registry": """
        KINDS = {}
        def on(kind):
            def add(function):
                KINDS[kind] = function
                return function
            return add
        @on("x")
        def made(): return 1
        def handler(e, c): return KINDS["x"]()""",
    "decorated": """
        import functools
        def twice(function):
            @functools.wraps(function)
            def both(*args): return function(*args) and function(*args)
            return both
        @twice
        def handler(e, c): return 1""",
    "star": """
        from math import *
        def handler(e, c): return floor(cos(0))""",
    "unpacking": """
        a = b = 1
        (x, *y) = [a, b]
        def handler(e, c): return x""",
    "in an if": """
        if True:
            def handler(e, c): return 1""",
    "defined twice": """
        def handler(e, c): return 2
        def handler(e, c): return 1""",
    "future": """
        from __future__ import annotations
        from dataclasses import dataclass
        from typing import ClassVar
        @dataclass
        class Kind:
            number: ClassVar[int] = 3
            other: Unknown = None
        def handler(e: Unknown, c) -> Missing: return Kind(1).other
    """,
}


@pytest.mark.parametrize("kind", CELLS)
def test_kinds_of_cells(kind: str) -> None:
    assert deployed(cell_source(in_cell(CELLS[kind]))) == 1


def test_logging_set_up_travels() -> None:
    source = cell_source(
        in_cell("""
        import logging
        logger = logging.getLogger("mine")
        logger.setLevel(logging.INFO)
        table = dict()
        table.update(a=1)
        def handler(event, context):
            logger.info("hello"); table
    """)
    )
    assert Instance(**{"app.py": source}).printed().endswith("\thello\n")
    assert "update" not in source


def test_what_cannot_be_deployed() -> None:
    with pytest.raises(LabError, match="a lambda has no name"):
        cell_source(in_cell("handler = lambda e, c: 1\n"))
    around = 3

    def closure(event: Any, context: Any) -> int:
        return around

    with pytest.raises(LabError, match="closure takes around from the function around it"):
        cell_source(closure)
    with pytest.raises(LabError, match="is a method"):
        cell_source(Instance.run)
    with pytest.raises(LabError, match="write it with def"):
        cell_source(print)
    names: dict[str, Any] = {}
    exec("def handler(event, context): pass", names)
    with pytest.raises(LabError, match="the source of handler is not known"):
        cell_source(names["handler"])


FACTOR = 2


def doubled(n: int) -> int:
    return n * FACTOR


def in_this_file(event: Any, context: Any) -> str:
    return json.dumps(doubled(event))


def test_function_of_a_file_brings_what_it_needs() -> None:
    source = cell_source(in_this_file)
    guest = Instance(**{"app.py": source})
    assert guest.run(4, "app.in_this_file") == "8"
    assert "pytest" not in source


def test_nested_function_of_a_file() -> None:
    def handler(event: Any, context: Any) -> str:
        """Two lines,

        and more."""
        import os

        return json.dumps([doubled(event), os.environ["A"]])

    guest = Instance(environ={"A": "a"}, **{"app.py": cell_source(handler)})
    assert guest.run(4) == '[8, "a"]'


def test_nested_function_that_lacks_something() -> None:
    def handler(event: Any, context: Any) -> Any:
        return nowhere_defined  # type: ignore[name-defined]  # noqa: F821

    message = "handler uses nowhere_defined, which is not in its file: put it there"
    with pytest.raises(LabError, match=message):
        cell_source(handler)
