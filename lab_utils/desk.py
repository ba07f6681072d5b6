"""The reader's desk: which lab was left open at it, and how long the next one lasts.

A desk is an account, a Region, an identity, a computer, a folder and, where somebody tells which, a
notebook. Whoever comes back to it, after a kernel died for example, goes on with the lab that is
there. Where nobody tells (JupyterLab and VS Code do), the notebooks of a folder share a lab.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import socket
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from lab_utils.account import Account, number_in
from lab_utils.errors import LabError
from lab_utils.labels import Label

HOURS, MOST_HOURS = 4.0, 24.0 * 7
"""How long a lab lasts if nobody says otherwise, and at most."""
MINUTE = timedelta(minutes=1)
_CALLED_BY_TIME = re.compile(r"(:assumed-role/.*/(botocore-session|aws-[a-z-]+))-\d{9,}$")
"""The session of a role that an SDK has named after the moment of its beginning."""


def desk_of(account: Account) -> str:
    """Six hex digits that are the same whenever the reader comes back to this desk."""
    identity = _CALLED_BY_TIME.sub(r"\1", account.identity)
    here = (socket.gethostname(), str(Path.cwd()), _notebook())
    place = "\n".join((account.id, account.region, identity, *here))
    return hashlib.sha256(place.encode()).hexdigest()[:6]


def _notebook() -> str:
    """The notebook that asks; empty if nobody tells.

    VS Code tells by a variable of the notebook's own, Jupyter's server by the kernel's environment.
    """
    own = getattr(sys.modules["__main__"], "__vsc_ipynb_file__", "")
    return str(own or os.environ.get("JPY_SESSION_NAME", ""))


def lasting(hours: float | None) -> timedelta:
    """The time from these hours, or LAB_AWS_HOURS, or four of them."""
    chosen = number_in("LAB_AWS_HOURS", HOURS) if hours is None else hours
    if isinstance(chosen, bool) or not isinstance(chosen, int | float):
        raise LabError(f"hours={chosen!r} is no number of hours: give hours={HOURS:g}, say.")
    if not 0 < chosen <= MOST_HOURS:
        raise LabError(
            f"A lab lasts more than 0 and at most {MOST_HOURS:g} hours, not {chosen:g}: give "
            f"hours={HOURS:g}, say."
        )
    return timedelta(hours=chosen)


def label_asked_for(lab_id: str | None, now: datetime) -> Label | None:
    """The label that `lab_id`, or LAB_ID, names; LabError if no lab can be called that now."""
    text = lab_id or os.environ.get("LAB_ID") or None
    if text is None:
        return None
    label = Label.within(text) if isinstance(text, str) else None
    if label is None or label.id != text.strip():
        raise LabError(
            f"{text!r} is no id of a lab: it looks like lab-7f3a9c-2611260314; leave lab_id and "
            "LAB_ID out to go on with the lab of this desk."
        )
    if label.expires <= now:
        raise LabError(
            f"{label} expired at {label.expires:%Y-%m-%d %H:%M} UTC: remove it with `python -m "
            "lab_utils sweep`, and leave lab_id and LAB_ID out to open another."
        )
    if label.expires > now + timedelta(hours=MOST_HOURS) + MINUTE:
        raise LabError(
            f"{label} would last longer than {MOST_HOURS:g} hours: leave lab_id and LAB_ID out to "
            "open another."
        )
    return label


def label_of_desk(desk: str, there: Iterable[Label], now: datetime, lasts: timedelta) -> Label:
    """That of the lab that was left open at this desk, or a new one."""
    left_open = [label for label in there if label.desk == desk and label.expires > now]
    return max(left_open, default=Label(_whole_minutes(now + lasts), desk))


def _whole_minutes(moment: datetime) -> datetime:
    """A label knows no seconds; what was asked for is not cut short."""
    minutes = math.ceil(moment.timestamp() / MINUTE.total_seconds())
    return datetime.fromtimestamp(minutes * MINUTE.total_seconds(), moment.tzinfo)
