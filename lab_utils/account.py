"""Who is asking AWS, and where: the reader's own credentials, account and Region.

Everything here only looks. Accounts that are not for experiments are refused: root credentials, and
an account whose alias says that it is a production account.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from lab_utils.at_once import at_once
from lab_utils.errors import LabError
from lab_utils.refusals import DENIED, explained

CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 60.0
"""Seconds that a client waits for a connection and for an answer; LAB_AWS_TIMEOUT sets both."""
ATTEMPTS = 5
"""How often a client tries a call, in all; AWS_MAX_ATTEMPTS sets it."""
PRODUCTION = {"live", "prd", "prod", "production"}
"""Parts of an account's alias that say what it is for."""
OWN_HOSTS = (".amazonaws.com", ".api.aws")

Clients = Callable[[str], Any]
"""From the name of a service to its client."""


@dataclass(frozen=True)
class Account:
    """The reader's account as AWS describes it.

    `identity` is the caller's ARN. `alias` is empty if there is none, and None if it could not be
    read; `unreserved`, so many concurrent executions of Lambda's that no function has reserved, is
    None then, too. `endpoint` is where AWS is asked, if that is not AWS's own.
    """

    id: str
    region: str
    identity: str
    alias: str | None = ""
    unreserved: int | None = 1000
    endpoint: str = ""


# -- how AWS is asked ---------------------------------------------------------------------------


def open_session(region: str | None = None) -> Any:
    """A boto3 session with the reader's own credential chain, and Region if none is given."""
    import boto3

    with explained("reading your AWS settings"):
        return boto3.Session(region_name=region or os.environ.get("AWS_REGION") or None)


def manners() -> Config:
    """How the lab's clients wait for AWS, and how often they try."""
    return Config(
        connect_timeout=number_in("LAB_AWS_TIMEOUT", CONNECT_TIMEOUT),
        read_timeout=number_in("LAB_AWS_TIMEOUT", READ_TIMEOUT),
        retries={
            "mode": "standard",
            "total_max_attempts": int(number_in("AWS_MAX_ATTEMPTS", ATTEMPTS)),
        },
    )


def number_in(variable: str, otherwise: float) -> float:
    """The positive number in an environment variable, or `otherwise` if it is not set."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return otherwise
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise LabError(f"{variable}={text!r} is no positive number: set it to {otherwise:g}, say.")
    return number


def region_of(session: Any, services: tuple[str, ...]) -> str:
    """The session's Region, where all of these services are; LabError if there is none."""
    region = session.region_name
    if not region:
        raise LabError(
            "You chose no Region: set AWS_REGION, to us-east-1 for example, or a region in your "
            "profile."
        )
    known = _regions_with(session, services)
    if region not in known:
        near = get_close_matches(region, known, n=1)
        instead = f"did you mean {near[0]}?" if near else "us-east-1 is one, for example."
        raise LabError(
            f"AWS has no Region {region!r} with everything a lab needs: set AWS_REGION to another; "
            f"{instead}"
        )
    return str(region)


def _regions_with(session: Any, services: tuple[str, ...]) -> list[str]:
    """Global services, IAM for one, name no Regions: they are wherever the others are."""
    named = [session.get_available_regions(service) for service in services]
    return sorted(set.intersection(*(set(regions) for regions in named if regions)))


# -- who asks -----------------------------------------------------------------------------------


def who_asks(client: Clients) -> tuple[str, str]:
    """The account and the caller's ARN: the first thing to ask, which every identity may."""
    with explained("asking AWS who you are"):
        told = client("sts").get_caller_identity()
    return told["Account"], told["Arn"]


def look(client: Clients, region: str, who: tuple[str, str]) -> Account:
    """Ask AWS what the caller's account is called, and what it allows."""

    def aliases() -> Any:
        with explained("reading the account's alias"):
            return _if_allowed(client("iam").list_account_aliases)

    def settings() -> Any:
        with explained("reading Lambda's limits"):
            return _if_allowed(client("lambda").get_account_settings)

    named, limits = at_once(aliases, settings)
    endpoint = client("sts").meta.endpoint_url
    return Account(
        id=who[0],
        region=region,
        identity=who[1],
        alias=", ".join(named["AccountAliases"]) if named else None,
        unreserved=limits["AccountLimit"]["UnreservedConcurrentExecutions"] if limits else None,
        endpoint="" if endpoint.endswith(OWN_HOSTS) else endpoint,
    )


def check_fit(account: Account) -> None:
    """LabError if this is no account, or no identity, to experiment with."""
    if account.identity.endswith(":root"):
        raise LabError(
            f"These are the root credentials of account {account.id}, which may do everything: use "
            "those of a role or a user that has the policy `python -m lab_utils policy` prints."
        )
    parts = re.split(r"[^a-z]+", (account.alias or "").lower().replace("non-prod", "nonprod"))
    if PRODUCTION.intersection(parts):
        raise LabError(
            f"Account {account.id} is called {account.alias!r}, so it is a production account: use "
            "the credentials of another one, made for experiments."
        )


def _if_allowed(call: Callable[[], Any]) -> Any:
    """The call's answer, or None where the reader may not make it."""
    try:
        return call()
    except ClientError as problem:
        if problem.response["Error"]["Code"] not in DENIED:
            raise
        return None
