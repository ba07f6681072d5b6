"""One screen to read before anything is made on AWS: where, as whom, what, and what it costs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from textwrap import fill

from lab_utils import costs, prices
from lab_utils.account import Account, Clients, check_fit, look, who_asks
from lab_utils.at_once import at_once
from lab_utils.desk import HOURS, desk_of, label_asked_for, label_of_desk, lasting
from lab_utils.errors import LabError
from lab_utils.labels import Label
from lab_utils.pipeline import parts
from lab_utils.prices import HOME
from lab_utils.refusals import NOTHING_TO_RESERVE, UNRESERVED, explained
from lab_utils.sweep import labels_there

WIDTH, INDENT = 76, 11
BURST = 10_000
"""Messages, as in a round of the workshop."""
MINUTES = 4
"""Assumed: AWS documents minutes for a mapping, and none of the lab's tests waits for AWS."""
NAMED = 3
"""So many labs of others are named; the rest are counted."""


@dataclass(frozen=True, repr=False)
class Plan:
    """What a lab on AWS is about to be; shown, it is the screen.

    `resources` of the lab are there already; `others` are labs of other desks that have not
    expired, `expired` those of any desk that have. `hour` and `burst` are in USD.
    """

    account: Account
    label: Label
    now: datetime
    resources: int
    others: tuple[Label, ...]
    expired: tuple[Label, ...]
    hour: float
    burst: float
    remark: str

    @classmethod
    def of(cls, account: Account, label: Label, now: datetime, there: Mapping[Label, int]) -> Plan:
        """That of a lab with this label, where so many resources of these labs are there."""
        known = prices.load()
        return cls(
            account=account,
            label=label,
            now=now,
            resources=there.get(label, 0),
            others=tuple(sorted(each for each in there if each.expires > now and each != label)),
            expired=tuple(sorted(each for each in there if each.expires <= now)),
            hour=costs.pipeline_hour(known, account.region, parts.SHARDS),
            burst=costs.pipeline_burst(known, account.region, BURST),
            remark=known.remark(account.region),
        )

    @classmethod
    def example(cls, hours: float = HOURS) -> Plan:
        """A plan to look at without an account: that of AWS's own examples. Asks nobody."""
        now = datetime(2026, 1, 5, 9, tzinfo=UTC)
        reader = Account("123456789012", HOME, "arn:aws:iam::123456789012:user/reader")
        return cls.of(reader, Label(now + lasting(hours), "7f3a9c"), now, {})

    def check(self, confirm: str | int | None) -> None:
        """LabError, with the screen, unless `confirm` or LAB_AWS_CONFIRM names the account."""
        named = str(confirm or os.environ.get("LAB_AWS_CONFIRM", "")).strip()
        here = self.account.id
        if not named:
            raise LabError(
                f"Nothing is made before you confirm it.\n\n{self}\n\nTo go on, name the account: "
                f'open_lab("aws", confirm="{here}"),\nor set LAB_AWS_CONFIRM={here}.'
            )
        if named != here:
            raise LabError(
                f"You confirmed account {named}, but your credentials belong to account {here}, so "
                f"nothing is made: choose the profile of {named} in AWS_PROFILE, or confirm {here}."
            )

    def __str__(self) -> str:
        account, left = self.account, (self.label.expires - self.now).total_seconds() / 3600
        lines = [
            f"A lab on AWS, {'resumed' if self.resources else 'new'}",
            _line("account", f"{account.id}{f', {account.alias}' if account.alias else ''}"),
            _line("identity", account.identity),
            _line("region", account.region),
            *(
                [_line("endpoint", f"{account.endpoint}, not AWS's own")]
                if account.endpoint
                else ()
            ),
            _line("lab", f"{self.label}, in every name and in a tag"),
            _line(
                "holds",
                f"{_some(self.resources, 'resource')} {'already' if self.resources else 'yet'}",
            ),
            _line(
                "expires",
                f"{self.label.expires:%Y-%m-%d %H:%M} UTC, in {_hours(left)}: lab.close() removes "
                "all of it, or later `python -m lab_utils sweep`; nothing goes by itself",
            ),
            "The whole pipeline, of which most chapters need less",
            _line("makes", made()),
            _line("ready", f"in about {MINUTES} minutes, it is assumed"),
            _line(
                "costs",
                f"{self.hour:.2f} USD an hour, used or not ({self.hour * left:.2f} until it "
                f"expires), and {self.burst:.2g} USD for each burst of {BURST:,} messages. "
                f"{self.remark}",
            ),
            *(fill(f"! {note}", WIDTH, subsequent_indent="  ") for note in self._notes()),
        ]
        return "\n".join(lines)

    __repr__ = __str__

    def _notes(self) -> Iterable[str]:
        account = self.account
        if account.alias is None:
            yield (
                "You may not read the account's alias (iam:ListAccountAliases): make sure that it "
                "is no production account."
            )
        left = account.unreserved
        if left is not None and left <= UNRESERVED:
            yield f"{left} concurrent executions of functions are unreserved. {NOTHING_TO_RESERVE}"
        if self.expired:
            yield (
                f"Expired, and not removed yet: {_named(self.expired)}. `python -m lab_utils "
                "sweep` does it."
            )
        if self.others:
            yield f"In use at other desks: {_named(self.others)}."


def draw_up(
    client: Clients,
    region: str,
    endpoint: str,
    now: datetime,
    hours: float | None,
    lab_id: str | None,
) -> Plan:
    """The plan for a lab here and now; only asks AWS, and makes nothing.

    `endpoint` is where AWS is asked, as in an `Account`.
    """
    lasts, asked = lasting(hours), label_asked_for(lab_id, now)

    def looked_for() -> dict[Label, int]:
        with explained("looking for labs that are there"):
            return labels_there(client)

    who = who_asks(client)
    account, there = at_once(lambda: look(client, region, who, endpoint), looked_for)
    check_fit(account)
    label = asked or label_of_desk(desk_of(account), there, now, lasts)
    return Plan.of(account, label, now, there)


def made() -> str:
    """What the pipeline is made of, in numbers."""
    tables, functions = parts.tables(), parts.functions()
    streams = sum(table.streams for table in tables)
    kinds = {
        f"table ({streams} with streams)": len(tables),
        "function": len(functions),
        "role": len({function.role for function in functions}),
        "log group": len(functions),
        "event source mapping": len(functions),
    }
    return ", ".join(
        [f"a data stream of {_some(parts.SHARDS, 'shard')}"]
        + [_some(count, kind) for kind, count in kinds.items()]
    )


def _line(about: str, text: str) -> str:
    return fill(
        f"  {about:<{INDENT - 2}}{text}",
        WIDTH,
        subsequent_indent=" " * INDENT,
        break_on_hyphens=False,
    )


def _some(count: int, thing: str) -> str:
    noun, _, more = thing.partition(" (")
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}{f' ({more}' if more else ''}"


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.0f} minutes"


def _named(labels: tuple[Label, ...]) -> str:
    rest = len(labels) - NAMED
    return ", ".join(map(str, labels[:NAMED])) + (f" and {rest} more" if rest > 0 else "")
