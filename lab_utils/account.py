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
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import ClientError

from lab_utils.at_once import at_once
from lab_utils.errors import LabError
from lab_utils.refusals import DENIED, error_code, explained

CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 60.0
"""Seconds that a client waits for a connection and for an answer; LAB_AWS_TIMEOUT sets both."""
ATTEMPTS = 5
"""How often a client tries a call, in all; AWS_MAX_ATTEMPTS sets it."""
PRODUCTION = {"live", "prd", "prod", "production"}
"""Parts of an account's alias that say what it is for."""
OWN_HOSTS = (".amazonaws.com", ".api.aws")
"""Ends of the names of AWS's own hosts."""

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


def place_of(client: Any) -> str:
    """Where a client asks; empty if that is AWS."""
    endpoint = str(client.meta.endpoint_url)
    return "" if (urlsplit(endpoint).hostname or "").endswith(OWN_HOSTS) else endpoint


def one_place(client: Clients, services: tuple[str, ...]) -> str:
    """Where all of these services are asked; LabError if they are not asked at one place.

    What is made in one of them would not be in the account that another one told of.
    """
    with explained("reading your AWS settings"):
        places = {service: place_of(client(service)) for service in services}
    if len(set(places.values())) > 1:
        elsewhere = ", ".join(f"{service} at {place}" for service, place in places.items() if place)
        raise LabError(
            f"Your settings have some services asked elsewhere than the rest ({elsewhere}), so no "
            "one account can be confirmed: unset AWS_ENDPOINT_URL_DYNAMODB and its like (and "
            "`services` in your profile), or set AWS_ENDPOINT_URL for all."
        )
    return places[services[0]]


# -- who asks -----------------------------------------------------------------------------------


def who_asks(client: Clients) -> tuple[str, str]:
    """The account and the caller's ARN: the first thing to ask, which every identity may."""
    with explained("asking AWS who you are"):
        told = client("sts").get_caller_identity()
    return told["Account"], told["Arn"]


def look(client: Clients, region: str, who: tuple[str, str], endpoint: str) -> Account:
    """Ask AWS what the caller's account is called, and what it allows."""

    def aliases() -> Any:
        with explained("reading the account's alias"):
            return _if_allowed(client("iam").list_account_aliases)

    def settings() -> Any:
        with explained("reading Lambda's limits"):
            return _if_allowed(client("lambda").get_account_settings)

    named, limits = at_once(aliases, settings)
    return Account(
        id=who[0],
        region=region,
        identity=who[1],
        alias=", ".join(named["AccountAliases"]) if named else None,
        unreserved=limits["AccountLimit"]["UnreservedConcurrentExecutions"] if limits else None,
        endpoint=endpoint,
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


class Confirmed:
    """Holds a lab's clients to the account that was confirmed.

    Settings can change while a lab is open, and some credentials are renewed every hour: by a
    program of the reader's, for one, which may have turned to another account.
    """

    def __init__(self, account: Account, credentials: Any, plain_client: Clients) -> None:
        self._account, self._credentials = account, credentials
        self._plain_client, self._key = plain_client, credentials.access_key

    def hold(self, client: Any) -> Any:
        """The client, which from now on asks nobody if not of this account."""
        if place_of(client) != self._account.endpoint:
            raise LabError(
                f"AWS_ENDPOINT_URL has changed since account {self._account.id} was confirmed: set "
                "it back, or open the lab again."
            )
        client.meta.events.register("before-sign", self._check)
        return client

    def _check(self, **_: Any) -> None:
        key = self._credentials.access_key
        if key == self._key:
            return
        there = who_asks(self._plain_client)[0]
        if there != self._account.id:
            raise LabError(
                f"Your credentials belong to account {there} by now, and {self._account.id} was "
                "confirmed: nothing is asked of the other. Go back to the former ones, or open the "
                "lab again."
            )
        self._key = key


def _if_allowed(call: Callable[[], Any]) -> Any:
    """The call's answer, or None where the reader may not make it."""
    try:
        return call()
    except ClientError as problem:
        if error_code(problem) not in DENIED:
            raise
        return None
