"""The game's messages: bursts of seeded random trades, and the totals they must lead to.

A trading desk sends a message for every trade, and again when the trade changes. A normal burst
has new trades only. A special one is unkind: some messages change an earlier trade, some of those
arrive after the change they precede, and an eighth of each batch is sent twice.

All amounts are whole cents, so that every expected total is exact.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from lab_utils.errors import LabError

RISK_TYPES = ("Delta", "PV")
TRADE_DESKS = ("FXOptions", "FXSpot")
REGIONS = ("AMER", "APAC", "EMEA")

BATCH = 40  # messages in one PutRecords call
DUPLICATES = 5  # of which so many are copies in a special burst
NEW_TRADES = 0.97  # the share of new trades among a special burst's other messages
MAX_CENTS = 10_000_000  # a value lies between 0 and 100,000.00


def _total_keys() -> Iterator[str]:
    for risk_type in RISK_TYPES:
        yield risk_type
        for desk in TRADE_DESKS:
            yield f"{risk_type}:{desk}"
            yield from (f"{risk_type}:{desk}:{region}" for region in REGIONS)


TOTAL_KEYS = tuple(_total_keys())  # 2 + 4 + 12, each total before the ones it is made of


class Message(NamedTuple):
    """One version of one trade; ``cents`` is its value."""

    trade_id: str
    version: int
    cents: int
    risk_type: str
    desk: str
    region: str

    def text(self, timestamp: float) -> str:
        """The message as JSON, stamped with an epoch time in seconds."""
        hierarchy = {
            "RiskType": self.risk_type,
            "Region": self.region,
            "TradeDesk": self.desk,
        }
        message = {
            "TradeID": self.trade_id,
            "Version": self.version,
            "Value": self.cents / 100,
            "Timestamp": timestamp,
            "Hierarchy": hierarchy,
        }
        return json.dumps(message)


@dataclass(frozen=True)
class Counts:
    """How many messages of a burst are of which kind."""

    new: int = 0
    modified: int = 0
    obsolete: int = 0
    duplicates: int = 0

    @property
    def messages(self) -> int:
        """All messages of the burst."""
        return self.new + self.modified + self.obsolete + self.duplicates


@dataclass(frozen=True)
class Burst:
    """Messages in the batches in which they are sent, and what they must add to the totals.

    ``expected`` holds all 18 totals in cents; ``now`` is the epoch time in seconds for which the
    burst was made.
    """

    seed: int
    special: bool
    now: float
    batches: tuple[tuple[Message, ...], ...] = field(repr=False)
    expected: dict[str, int] = field(repr=False)
    counts: Counts

    def __len__(self) -> int:
        return self.counts.messages

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """All records, ready for PutRecords in slices of up to 500, stamped with ``now``."""
        return [record for batch in self.batches for record in stamp(batch, self.now)]


def make_burst(
    seed: int, n: int = 10_000, special: bool = False, now: float | datetime = 0.0
) -> Burst:
    """Draw a burst of ``n`` messages for the instant ``now`` (epoch seconds or a datetime).

    The seed alone decides about values, places and versions; trade ids depend on ``now`` too,
    so that a burst that is sent again some time later brings new trades.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise LabError(f"n={n!r} is no number of messages: give a whole number from 1.")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise LabError(f"seed={seed!r} is no seed: give a whole number.")
    epoch = now.timestamp() if isinstance(now, datetime) else float(now)
    rng = random.Random(seed)
    ids = random.Random(f"{seed}/{epoch!r}")
    latest: dict[str, Message] = {}
    trades: list[str] = []
    batches: list[tuple[Message, ...]] = []
    new = modified = obsolete = duplicates = 0
    for first in range(0, n, BATCH):
        size = min(BATCH, n - first)
        copies = size * DUPLICATES // BATCH if special else 0
        fresh: list[Message] = []
        for _ in range(size - copies):
            if not special or not trades or rng.random() < NEW_TRADES:
                trade_id = str(UUID(int=ids.getrandbits(128), version=4))
                trades.append(trade_id)
                message = latest[trade_id] = _draw(rng, trade_id, 0)
                new += 1
            else:
                trade_id = rng.choice(trades)
                if latest[trade_id].version == 0:
                    message = latest[trade_id] = _draw(rng, trade_id, 1)
                    modified += 1
                else:  # a version that should have come before the one that is kept
                    message = _draw(rng, trade_id, 0)
                    obsolete += 1
            fresh.append(message)
        batches.append((*fresh, *(rng.choice(fresh) for _ in range(copies))))
        duplicates += copies
    return Burst(
        seed=seed,
        special=special,
        now=epoch,
        batches=tuple(batches),
        expected=roll_up(latest.values()),
        counts=Counts(new, modified, obsolete, duplicates),
    )


def roll_up(messages: Iterable[Message]) -> dict[str, int]:
    """The 18 totals of these messages, in cents, in the order of the hierarchy."""
    totals = dict.fromkeys(TOTAL_KEYS, 0)
    for message in messages:
        desk = f"{message.risk_type}:{message.desk}"
        for key in (message.risk_type, desk, f"{desk}:{message.region}"):
            totals[key] += message.cents
    return totals


def stamp(batch: Iterable[Message], now: float | datetime) -> list[dict[str, Any]]:
    """Records for PutRecords, stamped with ``now`` (epoch seconds or a datetime).

    The partition key is the SHA-256 of the text: two versions of a trade go to shards that have
    nothing to do with each other, two copies of a message to the same one.
    """
    epoch = now.timestamp() if isinstance(now, datetime) else float(now)
    texts = [message.text(epoch).encode() for message in batch]
    return [{"Data": text, "PartitionKey": sha256(text).hexdigest()} for text in texts]


def _draw(rng: random.Random, trade_id: str, version: int) -> Message:
    """A version of a trade whose value and place are drawn anew."""
    return Message(
        trade_id,
        version,
        rng.randint(0, MAX_CENTS),
        rng.choice(RISK_TYPES),
        rng.choice(TRADE_DESKS),
        rng.choice(REGIONS),
    )
