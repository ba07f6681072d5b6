"""What stands between a reader and LocalStack: each is told apart, in one sentence with its remedy.

The answers are those that LocalStack documents
(https://docs.localstack.cloud/aws/capabilities/networking/internal-endpoints/ and
https://docs.localstack.cloud/aws/getting-started/auth-token/) with the fields that its source has
(localstack/localstack: `services/internal.py`, `services/plugins.py`), given by small servers.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import struct
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

import lab_utils as lu
from lab_utils import localstack
from lab_utils.errors import LabError
from lab_utils.targets import SERVICES

SETTINGS = ("AWS_ENDPOINT_URL", "LOCALSTACK_HOST", "USE_SSL", "EDGE_PORT", "USE_LEGACY_PORTS")


@pytest.fixture(autouse=True)
def reader(monkeypatch, tmp_path):
    """The environment of a reader who chose LocalStack, and has neither a proxy nor Docker."""
    for name in (*SETTINGS, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LAB_TARGET", "localstack")
    monkeypatch.setenv("LAB_PROGRESS", "0")
    monkeypatch.setenv("PATH", str(tmp_path))


# -- what LocalStack answers ----------------------------------------------------------------------


def health(version="2026.4.0", edition="pro", without=(), **states):
    services = dict.fromkeys(SERVICES, "available") | {"s3": "running"} | states
    return {
        "services": {name: state for name, state in services.items() if name not in without},
        "edition": edition,
        "version": version,
    }


def info(version="2026.4.0", edition="pro", licensed=True):
    return {
        "version": f"{version}:0942fa747",
        "edition": edition,
        "is_license_activated": licensed,
        "session_id": "7ef52ddb-8cfc-4175-99d7-1a5c67a65bf5",
        "machine_id": "dkr_d9dc585e1065",
        "system": "linux",
        "is_docker": True,
        "server_time_utc": "2026-05-14T22:30:25",
        "uptime": 5203,
    }


NOT_FOUND = (404, "text/html", b"<h1>Not Found</h1>")
UNPREPARED = (503, "text/plain", b"starting")


def hang_up(handler):
    """As Docker does while LocalStack in the container is not there yet."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


@contextmanager
def endpoint(*answers, tls=None, **pages):
    """A server; `pages` are its health and info, `answers` what it does before it has them.

    An answer is a JSON document, (status, content type, body), or a function of the handler.
    """
    before = list(answers)
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            page = self.path.removeprefix("/_localstack/")
            answer = before.pop(0) if before else pages.get(page, NOT_FOUND)
            if callable(answer):
                answer(self)
                return
            if isinstance(answer, dict):
                answer = (200, "application/json", json.dumps(answer).encode())
            status, kind, body = answer
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            """A client that turned away is what some tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        server.asked = asked
        server.address = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        try:
            yield server
        finally:
            server.shutdown()
            serving.join()


def opened(monkeypatch, server):
    """What a lab on this server knows of it; closing it would take more than two pages."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
    return lu.open_lab()._target.about


def refused(monkeypatch, server_or_address):
    """The sentence with which no lab is opened."""
    address = getattr(server_or_address, "address", server_or_address)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    return sentence()


def sentence():
    with pytest.raises(LabError) as caught:
        lu.open_lab()
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert caught.value.__cause__ is None
    return text


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# -- it is there ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "edition", "licensed"),
    [
        ("2026.4.0", "pro", True),
        ("2026.3.1.dev3", "pro", True),
        ("4.14.0", "community", False),  # the last versions that ran without a token
        ("4.0.0", "community", False),
    ],
)
def test_localstack_itself(monkeypatch, version, edition, licensed):
    with endpoint(health=health(version, edition), info=info(version, edition, licensed)) as server:
        about = opened(monkeypatch, server)
    assert about.itself
    assert str(about) == f"LocalStack, version {version}, edition {edition}"
    assert about.licensed is licensed
    assert server.asked == ["/_localstack/health", "/_localstack/info"], "opening stays cheap"


@pytest.mark.parametrize(
    "pages",
    [
        {"health": health("1.5.33", "light")},
        {"health": {"services": {}}},
        {
            "health": health("0.1.0", "community"),
            "info": {"version": "0.1.0", "edition": "community", "is_license_activated": False},
        },
        {"health": health("3.1", "light"), "info": (200, "application/json", b"[1]")},
        {"health": health("3.1", "light"), "info": (200, "text/html", b"<html>")},
    ],
)
def test_what_speaks_like_it_is_not_held_to_its_versions_and_tokens(monkeypatch, pages):
    with endpoint(**pages) as server:
        about = opened(monkeypatch, server)
    assert not about.itself
    assert str(about).startswith("something that speaks like LocalStack")


def test_its_own_name_for_a_service_is_known(monkeypatch):
    page = health("1.5.33", "light", without=("cloudwatch",), monitoring="available")
    with endpoint(health=page) as server:
        assert opened(monkeypatch, server).state("cloudwatch") == "available"


@pytest.mark.parametrize(
    "before", [[hang_up], [UNPREPARED], [health(kinesis="starting"), info()], [health(), hang_up]]
)
def test_what_is_starting_is_waited_for(monkeypatch, before):
    with endpoint(*before, health=health(), info=info()) as server:
        assert opened(monkeypatch, server).itself
    assert server.asked.count("/_localstack/health") == 2


def test_the_bar_says_what_is_waited_for(monkeypatch, capsys):
    monkeypatch.setenv("LAB_PROGRESS", "1")
    monkeypatch.setattr("lab_utils.progress.A_MOMENT", 0)
    with endpoint(hang_up, hang_up, health=health(), info=info()) as server:
        opened(monkeypatch, server)
    assert f"waiting: LocalStack at {server.address} has started" in capsys.readouterr().err


# -- nobody, somebody else, not yet ---------------------------------------------------------------


def test_nothing_listens(monkeypatch):
    address = f"http://127.0.0.1:{closed_port()}"
    text = refused(monkeypatch, address)
    assert text.startswith(f"Nothing answers at {address} (Connection refused): start LocalStack ")
    assert "`docker compose up -d --wait`" in text
    assert "`docker compose logs localstack` says why" in text


@pytest.fixture
def nowhere(monkeypatch):
    """A name server that knows of no other machine; tests may not ask a real one."""

    def know_nothing(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", know_nothing)


def test_a_host_that_nobody_knows(monkeypatch, nowhere):
    text = refused(monkeypatch, "http://nowhere.invalid:4566")
    assert text.startswith(
        "Nothing answers at http://nowhere.invalid:4566 (Name or service not known): "
    )


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ((200, "text/html", b"<html>Welcome to nginx</html>"), "text/html"),
        ((200, "application/json", b'{"status": "UP"}'), "JSON without services"),
        ((200, "application/json", b'["dynamodb"]'), "JSON without services"),
        ((200, "application/json", b'{"services": "all"}'), "JSON without services"),
        ((200, "application/json", b'{"services": '), "application/json"),
        (NOT_FOUND, "HTTP 404"),
        ((401, "text/plain", b""), "HTTP 401"),
        ((500, "text/plain", b""), "HTTP 500"),
    ],
)
def test_somebody_else_answers(monkeypatch, answer, seen):
    with endpoint(health=answer) as server:
        text = refused(monkeypatch, server)
    assert text == (
        f"Something answers at {server.address}, but it is no LocalStack ({seen}): name "
        "LocalStack's address in AWS_ENDPOINT_URL or LOCALSTACK_HOST, or use LAB_TARGET=embedded."
    )


def test_https_where_there_is_no_tls(monkeypatch):
    with endpoint(health=health(), info=info()) as server:
        text = refused(monkeypatch, server.address.replace("http", "https"))
    assert "not with TLS: write " + server.address in text


@pytest.mark.parametrize("answer", [hang_up, UNPREPARED, health(kinesis="starting")])
def test_what_does_not_get_ready(monkeypatch, answer):
    monkeypatch.setattr(localstack, "PATIENCE", 0.2)
    with endpoint(health=answer, info=info()) as server:
        text = refused(monkeypatch, server)
    assert text.startswith(f"Something takes connections at {server.address}, but in 0.2 s it did ")
    assert "`docker compose logs localstack` says what it is doing" in text
    assert any(seen in text for seen in ("it hangs up", "HTTP 503", "starting kinesis"))


def test_who_never_says_a_word(monkeypatch):
    monkeypatch.setattr(localstack, "PATIENCE", 0.1)
    monkeypatch.setattr(localstack, "ANSWER_WITHIN", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = refused(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "did not get ready (it says nothing)" in text


# -- it is there, but ... -------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "words"), [("disabled", "switched off"), ("error", "in error")])
def test_a_service_that_the_lab_needs_is_off(monkeypatch, state, words):
    with endpoint(health=health(kinesis=state, sqs=state), info=info()) as server:
        text = refused(monkeypatch, server)
    assert f"kinesis is {words}, sqs is {words}: " in text
    assert f"name {','.join(SERVICES)} in its variable SERVICES" in text


def test_a_service_that_is_not_named_is_off_in_localstack_itself(monkeypatch):
    # So answered 4.13 with SERVICES=s3,dynamodb,...: it names those alone.
    page = health("4.13.2.dev60", "community", without=("cloudwatch",))
    with endpoint(health=page, info=info("4.13.2.dev60", "community", False)) as server:
        assert "but cloudwatch is not there: name " in refused(monkeypatch, server)


@pytest.mark.parametrize("version", ["3.8.1", "3.5.1.dev", "3.0.1.dev"])
def test_a_version_that_is_too_old(monkeypatch, version):
    with endpoint(
        health=health(version, "community"), info=info(version, "community", False)
    ) as server:
        text = refused(monkeypatch, server)
    assert f"runs LocalStack, version {version}, edition community, which is older than 4.0" in text
    assert "`docker compose pull`" in text


def test_a_version_that_has_no_info_page_yet(monkeypatch):
    with endpoint(health=health("2.1.0", "community")) as server:
        assert "version 2.1.0, edition community, which is older" in refused(monkeypatch, server)


@pytest.mark.parametrize("version", ["2026.3.0", "2026.11.2"])
def test_without_an_activated_token(monkeypatch, version):
    with endpoint(
        health=health(version, "community"), info=info(version, "community", False)
    ) as server:
        text = refused(monkeypatch, server)
    assert "without an activated token: set LOCALSTACK_AUTH_TOKEN " in text


# -- what Docker knows of one that ended ----------------------------------------------------------

# localstack/localstack's image 2026.3.1.dev3 in microcks/microcks issue 2008.
NO_CREDENTIALS = (
    "Localstack returning with exit code 55. Reason: \n"
    "The license activation failed for the following reason:\n\n"
    "No credentials were found in the environment. Please make sure to either set the "
    "LOCALSTACK_AUTH_TOKEN variable to a valid auth token.\n"
)
OTHER_REASON = (
    "Localstack returning with exit code 55. Reason: \n"
    "The license activation failed for the following reason:\n\nThe token is invalid.\n"
)


def docker(monkeypatch, folder, listed, logs, status=0):
    """A command `docker` that knows of one container."""
    program = folder / "docker"
    (folder / "listed").write_text(listed)
    (folder / "logs").write_text(logs)
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {folder}/asked\n'
        f"if [ $1 = ps ]; then /bin/cat {folder}/listed; else /bin/cat {folder}/logs >&2; fi\n"
        f"exit {status}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("logs", "why"), [(NO_CREDENTIALS, "has no token"), (OTHER_REASON, "had its token refused")]
)
def test_a_container_that_ended_for_its_token(monkeypatch, tmp_path, logs, why):
    docker(monkeypatch, tmp_path, "4bd1c0ffee42\n", logs)
    text = refused(monkeypatch, f"http://localhost:{closed_port()}")
    assert text.startswith(f"LocalStack {why} and ended with status 55: set LOCALSTACK_AUTH_TOKEN ")
    listing, reading = (tmp_path / "asked").read_text().splitlines()
    assert "label=com.docker.compose.service=localstack" in listing
    assert "exited=55" in listing
    assert reading == "logs --tail 40 4bd1c0ffee42"


@pytest.mark.parametrize(("listed", "status"), [("", 0), ("4bd1c0ffee42\n", 1)])
def test_docker_knows_of_none_or_can_not_be_asked(monkeypatch, tmp_path, listed, status):
    docker(monkeypatch, tmp_path, listed, NO_CREDENTIALS, status)
    text = refused(monkeypatch, f"http://127.0.0.1:{closed_port()}")
    assert text.startswith("Nothing answers at ")


def test_docker_is_not_asked_about_other_machines(monkeypatch, tmp_path, nowhere):
    docker(monkeypatch, tmp_path, "4bd1c0ffee42\n", NO_CREDENTIALS)
    assert refused(monkeypatch, "http://nowhere.invalid").startswith("Nothing answers at ")
    assert not (tmp_path / "asked").exists()


# -- what comes with the book ---------------------------------------------------------------------

ROOT = Path(__file__).resolve().parent.parent


def test_compose_starts_what_the_lab_needs():
    stack = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["localstack"]
    assert set(stack["environment"]["SERVICES"].split(",")) == set(SERVICES)
    assert stack["ports"] == ["127.0.0.1:4566:4566"]
    assert stack["healthcheck"]["test"][-1] == "http://localhost:4566/_localstack/health"
    chosen = re.search(r"LOCALSTACK_VERSION:-(\d+)\.(\d+)\.", stack["image"])
    assert tuple(map(int, chosen.groups())) >= localstack.NEEDS_TOKEN


def test_the_workflow_runs_every_chapter_where_there_is_a_token():
    jobs = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text())["jobs"]
    job = jobs["localstack"]
    assert job["if"] == "needs.token.outputs.there == 'true'"
    steps = [step.get("run", "") for step in job["steps"]]
    assert any("pytest tests/test_chapters_elsewhere.py" in step for step in steps)
    assert job["env"]["LAB_TEST_ENDPOINT"] == "http://localhost:4566"
    assert "secrets" not in json.dumps([step.get("if", "") for step in job["steps"]])
    assert "localstack" not in jobs["publish"]["needs"], "the book appears without it"


# -- where it is looked for -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, "http://localhost:4566"),
        ({"LOCALSTACK_HOST": "stack.test"}, "http://stack.test:4566"),
        ({"LOCALSTACK_HOST": "stack.test:4510"}, "http://stack.test:4510"),
        ({"LOCALSTACK_HOST": ":4510"}, "http://localhost:4510"),
        ({"USE_SSL": "1"}, "https://localhost:4566"),
        ({"EDGE_PORT": "4510"}, "http://localhost:4566"),  # localstack-client reads it no more
        ({"AWS_ENDPOINT_URL": " http://stack.test:4510/ "}, "http://stack.test:4510"),
        ({"AWS_ENDPOINT_URL": "https://stack.test"}, "https://stack.test"),
        ({"AWS_ENDPOINT_URL": "http://[::1]:4566"}, "http://[::1]:4566"),
        ({"AWS_ENDPOINT_URL": "http://a.test", "LOCALSTACK_HOST": "b.test"}, "http://a.test"),
    ],
)
def test_the_address_is_that_of_localstack_client(monkeypatch, settings, found):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert localstack.address() == found


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"LOCALSTACK_HOST": "stack.test:x"}, "LOCALSTACK_HOST is no host and port"),
        ({"LOCALSTACK_HOST": "http://stack.test:4566"}, "LOCALSTACK_HOST is no host and port"),
        ({"AWS_ENDPOINT_URL": "localhost:4566"}, "'localhost:4566' is no address"),
        ({"AWS_ENDPOINT_URL": "ftp://localhost"}, "'ftp://localhost' is no address"),
        ({"AWS_ENDPOINT_URL": "http://localhost:port"}, "'http://localhost:port' is no address"),
        ({"AWS_ENDPOINT_URL": "http://localhost:99999"}, "'http://localhost:99999' is no address"),
        ({"AWS_ENDPOINT_URL": "http://localhost:4566/aws"}, "write http://localhost:4566."),
        ({"AWS_ENDPOINT_URL": "http://localhost:4566?a=b"}, "write http://localhost:4566."),
    ],
)
def test_an_address_that_can_not_be(monkeypatch, settings, words):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert words in sentence()


def test_a_trailing_slash_and_a_profile_that_is_not_there(elsewhere, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{elsewhere}/")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with lu.open_lab() as lab:
        assert lab.client("lambda").list_functions()["Functions"] == []
        assert lab.client("s3").list_buckets()["Buckets"] == []


@pytest.fixture
def tls(tmp_path):
    """A certificate for another name than the address, as LocalStack's is."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=localhost.localstack.cloud")
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    ).sign(key, hashes.SHA256())
    pem = tmp_path / "stack.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def test_https_with_a_certificate_for_another_name(monkeypatch, tls):
    with endpoint(tls=tls, health=health(), info=info()) as server:
        assert opened(monkeypatch, server).itself


def test_http_where_tls_is_spoken(monkeypatch, tls):
    monkeypatch.setattr(localstack, "PATIENCE", 0.2)
    with endpoint(tls=tls, health=health(), info=info()) as server:
        text = refused(monkeypatch, server.address.replace("https", "http"))
    assert text.startswith("Something ")
    assert os.environ["AWS_ENDPOINT_URL"] in text
