"""LocalStack, or what speaks like it: where it listens, what it says of itself, if it will do.

Facts: https://docs.localstack.cloud/aws/capabilities/networking/internal-endpoints/ for the pages
`/_localstack/health` and `/_localstack/info`, https://docs.localstack.cloud/aws/getting-started/auth-token/
for the token, and the source of localstack/localstack (`services/internal.py`) for their fields.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from secrets import token_hex
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config

from lab_utils.clock import WallClock, wait_until
from lab_utils.errors import LabError
from lab_utils.labels import Label
from lab_utils.targets import SERVICES, Target

PATIENCE = 60.0
"""Seconds for which a LocalStack that is still starting is waited for."""
LASTS = timedelta(hours=4)
"""Until then `python -m lab_utils sweep` takes a lab for one that is in use."""
ANSWER_WITHIN = 5.0
"""Seconds for one page of LocalStack's."""
OLDEST = (4, 0)
"""Our choice: since 3.8 mappings are by default those of today, and 4.0 was to drop the former ones
(localstack/localstack, pull request 11625)."""
NEEDS_TOKEN = (2026, 3)
"""From this version on LocalStack's image does not run without a token."""
WITHOUT_TOKEN = 55
"""The status with which its container exits if the token is missing or refused."""
ALSO_CALLED = {"cloudwatch": "monitoring"}
"""What MiniStack's health page calls a service."""
OFF = {"disabled": "switched off", "error": "in error", "missing": "not there"}
ITS_OWN_EDITIONS = ("community", "pro", "enterprise")
UNPREPARED = (502, 503, 504)
INSTEAD = "or use LAB_TARGET=embedded"
ITS_TOKEN = (
    "set LOCALSTACK_AUTH_TOKEN to the token of an account that has a licence "
    f"(https://app.localstack.cloud), start it again with `docker compose up -d --wait`, {INSTEAD}"
)
LOOK_AT_LOG = "`docker compose logs localstack` says why"
REMEDIES = {
    "your 'SERVICES' configuration": f"name {','.join(SERVICES)} in its variable SERVICES, or "
    "leave that out, and start it again",
    "license plan": "your LocalStack licence or this version leaves it out: see your plan at "
    "app.localstack.cloud, or raise LOCALSTACK_VERSION",
    "pro feature": "this LocalStack has no activated token: set LOCALSTACK_AUTH_TOKEN and start "
    "it again",
    "Docker not available": "mount Docker's socket into LocalStack's container, as compose.yaml "
    "does, and start it again",
    "is Active": "LocalStack fetches an image before its first function, which can take minutes: "
    "ask again",
}
"""Words of LocalStack's refusals (from its source: `aws/handlers/service.py`, `utils/catalog`,
`utils/container_utils`) and of a wait that was in vain, and what is to be done about each."""


@dataclass(frozen=True)
class About:
    """What an endpoint says of itself on its pages `health` and `info`.

    `services`: the state of each by its name: available, running, starting, disabled, error ...
    `itself`: whether this is LocalStack, rather than something that is compatible with it.
    `licensed`: whether it has activated a token; None where there is no such thing.
    """

    services: dict[str, str]
    version: str
    edition: str
    itself: bool
    licensed: bool | None

    def state(self, service: str) -> str:
        """The state of one of the lab's services; missing if the endpoint does not name it."""
        names = (service, ALSO_CALLED.get(service, service))
        return next((self.services[name] for name in names if name in self.services), "missing")

    @property
    def release(self) -> tuple[int, ...]:
        """The first two numbers of the version; () if it has none."""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        return tuple(map(int, found.groups())) if found else ()

    def __str__(self) -> str:
        name = "LocalStack" if self.itself else "something that speaks like LocalStack"
        facts = {"version": self.version, "edition": self.edition}
        return ", ".join([name, *(f"{what} {value}" for what, value in facts.items() if value)])


class LocalStack(Target):
    """Any endpoint that speaks like LocalStack, found by localstack-client's own settings."""

    name = "localstack"
    features = frozenset({"invocations"})
    owner: Label

    def __init__(self) -> None:
        self.clock, self._one_by_one = WallClock(), Lock()
        self.endpoint = address()
        self.about = admit(self.endpoint)
        expires = (self.clock.now() + LASTS).replace(second=0, microsecond=0)
        self.owner = Label(expires, desk=token_hex(3))

    @cached_property
    def _session(self) -> Any:
        import boto3.session
        import botocore.session
        from botocore.configprovider import ConstantProvider

        core = botocore.session.Session()
        settings = core.get_component("config_store")
        settings.set_config_provider("profile", ConstantProvider(None))  # it is meant for AWS
        return boto3.session.Session("accesskey", "secretkey", "token", self.region, core)

    def make_client(self, service: str, config: Config | None = None) -> Any:
        usual = Config(connect_timeout=5, read_timeout=60, retries={"max_attempts": 4})
        with self._one_by_one:  # a session is not made for threads, its clients are
            return self._session.client(
                service,
                endpoint_url=self.endpoint,
                verify=False,  # its certificate is for localhost.localstack.cloud
                config=usual.merge(config) if config else usual,
            )

    def remedy(self, words: str) -> str:
        """What to do about a refusal of LocalStack's in these words."""
        return next((to_do for part, to_do in REMEDIES.items() if part in words), LOOK_AT_LOG)

    def reset(self) -> None:
        """Nothing of LocalStack's is the target's own."""

    def close(self) -> None:
        """LocalStack goes on; what the lab made there, the lab removes."""


# -- where it listens -----------------------------------------------------------------------------


def address() -> str:
    """Where LocalStack listens: AWS_ENDPOINT_URL or LOCALSTACK_HOST, as localstack-client reads."""
    import localstack_client.config

    try:
        given = str(localstack_client.config.get_service_endpoint("sts"))
    except RuntimeError:
        raise LabError(
            "LOCALSTACK_HOST is no host and port: write it like localhost:4566, or name the "
            f"address in AWS_ENDPOINT_URL, {INSTEAD}."
        ) from None
    try:
        parts = urlsplit(given)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = None
    if not sound:
        raise LabError(
            f"{given!r} is no address: name LocalStack's in AWS_ENDPOINT_URL, like "
            f"http://localhost:4566, {INSTEAD}."
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise LabError(
            f"LocalStack answers at the root of an address, and AWS_ENDPOINT_URL={given} goes on "
            f"behind it: write {parts.scheme}://{parts.netloc}."
        )
    return f"{parts.scheme}://{parts.netloc}"


# -- what it says of itself -----------------------------------------------------------------------


class _NotYet(Exception):
    """Somebody holds the port but does not answer yet; the message says what was seen."""


def admit(endpoint: str) -> About:
    """What is there, once it is ready; a LabError says what is in the way, and what to do."""
    seen = ""

    def ready() -> About | None:
        nonlocal seen
        try:
            return look(endpoint)
        except _NotYet as problem:
            seen = str(problem)
            return None

    ready.__doc__ = f"LocalStack at {endpoint} has started"
    try:
        about: About = wait_until(WallClock(), ready, PATIENCE)
    except TimeoutError:
        raise LabError(
            f"Something takes connections at {endpoint}, but in {PATIENCE:g} s it did not get "
            f"ready ({seen}): `docker compose logs localstack` says what it is doing; open the lab "
            f"again when it says Ready, {INSTEAD}."
        ) from None
    for complaint in (_too_old(about), _without_token(about), _switched_off(about)):
        if complaint:
            raise LabError(f"At {endpoint} runs {about}, {complaint}.")
    return about


def look(endpoint: str) -> About:
    """Ask it once, with two requests; _NotYet if it is still starting."""
    health = _page(endpoint, "health")
    services = health.get("services") if isinstance(health, dict) else None
    if not isinstance(services, dict):
        raise _stranger(endpoint, "JSON without services")
    try:
        info = dict(_page(endpoint, "info"))
    except (LabError, TypeError, ValueError):  # a page of LocalStack's own, since its version 3
        info = {}
    edition = str(health.get("edition", ""))
    about = About(
        {str(name): str(state) for name, state in services.items()},
        version=str(health.get("version", "")),
        edition=edition,
        itself="machine_id" in info or (not info and edition in ITS_OWN_EDITIONS),
        licensed=info.get("is_license_activated"),
    )
    starting = [name for name in SERVICES if about.state(name) == "starting"]
    if starting:
        raise _NotYet(f"starting {', '.join(starting)}")
    return about


def _page(endpoint: str, name: str) -> Any:
    """One of LocalStack's own pages, as JSON."""
    trusting = ssl._create_unverified_context()  # as localstack-client does
    request = urllib.request.Request(f"{endpoint}/_localstack/{name}")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN, context=trusting) as answer:
            text, kind = answer.read(), answer.headers.get_content_type()
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code in UNPREPARED:
            raise _NotYet(f"HTTP {problem.code}") from None
        raise _stranger(endpoint, f"HTTP {problem.code}") from None
    except (OSError, http.client.HTTPException) as problem:
        raise _unanswered(endpoint, problem) from None
    try:
        return json.loads(text)
    except ValueError:
        raise _stranger(endpoint, kind) from None


def _unanswered(endpoint: str, problem: Exception) -> Exception:
    """Why there was no answer: not yet, nobody, or somebody else."""
    cause = getattr(problem, "reason", problem)
    if isinstance(cause, (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)):
        # Docker holds the port as soon as the container runs, LocalStack answers later.
        return _NotYet("it hangs up")
    if isinstance(problem, TimeoutError):  # a connection that nobody takes has a `reason` instead
        return _NotYet("it says nothing")
    if isinstance(cause, ssl.SSLError):
        return LabError(
            f"Something answers at {endpoint}, but not with TLS: write "
            f"http{endpoint.removeprefix('https')} in AWS_ENDPOINT_URL, {INSTEAD}."
        )
    if isinstance(cause, http.client.HTTPException):
        return _stranger(endpoint, "it speaks no HTTP")
    if stopped := _stopped_for_its_token(endpoint):
        return LabError(stopped)
    return LabError(
        f"Nothing answers at {endpoint} ({getattr(cause, 'strerror', None) or cause}): start "
        "LocalStack with `docker compose up -d --wait`, or name its address in AWS_ENDPOINT_URL or "
        f"LOCALSTACK_HOST, {INSTEAD}; if it does not stay up, `docker compose logs localstack` "
        "says why."
    )


def _stranger(endpoint: str, what: str) -> LabError:
    return LabError(
        f"Something answers at {endpoint}, but it is no LocalStack ({what}): name LocalStack's "
        f"address in AWS_ENDPOINT_URL or LOCALSTACK_HOST, {INSTEAD}."
    )


# -- if it will do --------------------------------------------------------------------------------


def _too_old(about: About) -> str:
    if not about.itself or not about.release or about.release >= OLDEST:
        return ""
    oldest = ".".join(map(str, OLDEST))
    return (
        f"which is older than {oldest}: run a later one with `docker compose pull` and "
        f"`docker compose up -d --wait` (LOCALSTACK_VERSION names it), {INSTEAD}"
    )


def _without_token(about: About) -> str:
    if not about.itself or about.licensed is not False or about.release < NEEDS_TOKEN:
        return ""
    return f"without an activated token: {ITS_TOKEN}"


def _switched_off(about: About) -> str:
    states = {name: about.state(name) for name in SERVICES}
    off = [
        f"{name} is {OFF[state]}"
        for name, state in states.items()
        if state in OFF and (about.itself or state != "missing")
    ]
    if not off:
        return ""
    return (
        f"but {', '.join(off)}: name {','.join(SERVICES)} in its variable SERVICES, or leave that "
        "out, and start it again; `docker compose logs localstack` says why one is in error"
    )


def _stopped_for_its_token(endpoint: str) -> str:
    """A sentence if Docker knows of a LocalStack that ended for want of a token, else nothing.

    From outside, such a LocalStack looks like none at all.
    """
    if urlsplit(endpoint).hostname not in ("localhost", "127.0.0.1", "::1"):
        return ""
    listed = _docker(
        *("ps", "--all", "--format", "{{.ID}}"),
        *("--filter", "label=com.docker.compose.service=localstack"),
        *("--filter", f"exited={WITHOUT_TOKEN}"),
    )
    if not listed:
        return ""
    said = _docker("logs", "--tail", "40", listed.split()[0])
    why = "has no token" if "No credentials were found" in said else "had its token refused"
    return f"LocalStack {why} and ended with status {WITHOUT_TOKEN}: {ITS_TOKEN}."


def _docker(*arguments: str) -> str:
    """What Docker says, on either channel; nothing if it can't be asked."""
    program = shutil.which("docker")
    if program is None:
        return ""
    try:
        asked = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=ANSWER_WITHIN,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout if asked.returncode == 0 else ""
