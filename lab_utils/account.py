"""Who is asking AWS, and where: the reader's own credentials, account and Region."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.config import Config

from lab_utils.errors import LabError
from lab_utils.labels import Label

CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 60.0
"""Seconds to wait for a connection and for an answer; LAB_AWS_TIMEOUT replaces both."""
ATTEMPTS = 5
"""So often a call is tried; AWS_MAX_ATTEMPTS, or the profile's max_attempts, replaces it."""
HOURS = 4.0
"""A lab lasts so long if nobody says otherwise."""

Clients = Callable[[str], Any]


def session() -> Any:
    """A boto3 session with the reader's own credential chain and Region."""
    import boto3

    return boto3.Session(region_name=os.environ.get("AWS_REGION") or None)


def manners(session: Any) -> Config:
    """How the lab's clients wait for AWS, and how often they try."""
    timeout = os.environ.get("LAB_AWS_TIMEOUT")
    attempts = os.environ.get("AWS_MAX_ATTEMPTS")
    return Config(
        connect_timeout=float(timeout or CONNECT_TIMEOUT),
        read_timeout=float(timeout or READ_TIMEOUT),
        retries={"mode": "standard", "total_max_attempts": int(attempts or ATTEMPTS)},
    )


def admit(
    client: Clients, region: str, confirm: str | None, hours: float | None, lab_id: str | None
) -> Label:
    """The label of the lab that may be opened here."""
    identity = client("sts").get_caller_identity()
    account = identity["Account"]
    if (confirm or os.environ.get("LAB_AWS_CONFIRM")) != account:
        raise LabError(f"Nothing was made: say open_lab(confirm={account!r}).")
    if lab_id and (label := Label.within(lab_id)):
        return label
    place = "\n".join((account, region, identity["Arn"], socket.gethostname(), str(Path.cwd())))
    desk = hashlib.sha256(place.encode()).hexdigest()[:6]
    expires = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=hours or HOURS)
    return Label(expires, desk)
