"""Time to live: items that name the moment after which nobody needs them are deleted.

A table names one attribute. An item is over when the number there, in epoch seconds, lies in the
past; DynamoDB then deletes it some time later (AWS: typically within days; here
`Physics.expiry_delay`), at no cost, and the stream's record tells who did it. Until then the item
is there for everybody to read and to change.

Rules and words are those of the API reference and of the Developer Guide, and what was observed:
an attribute that is not a number is no expiry, nor is one more than five years ago; the attribute
may be a key. On AWS a change of the setting takes up to an hour, in which another is refused; here
it is in force when it is answered.
"""

from __future__ import annotations

import heapq
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from lab_utils.emulator.backing import Change
from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.partitions import EXACT, key_text
from lab_utils.emulator.physics import HOUR, MICROSECONDS, between, microseconds

if TYPE_CHECKING:
    from lab_utils.emulator.dynamodb import Table
    from lab_utils.emulator.world import Region

Item = dict[str, Any]
Params = dict[str, Any]

TOO_OLD = microseconds(5 * 365 * 24 * HOUR)
"""Items that were over longer ago are left alone (Developer Guide), lest a slip deletes them."""
SLACK = 1000
"""So many entries of the queue may be out of date before they are cleared away."""


class TimeToLive:
    """The two calls that concern it: UpdateTimeToLive and DescribeTimeToLive."""

    def __init__(self, region: Region) -> None:
        self._region = region

    def update(self, params: Params) -> Params:
        table = self._region.dynamodb.table(params["TableName"])
        wanted = params["TimeToLiveSpecification"]
        name, now = wanted["AttributeName"], table.expiry
        if now is not None and now.attribute != name:
            raise ApiError(
                "ValidationException",
                "TimeToLive is active on a different AttributeName: "
                f"current AttributeName is {now.attribute}",
            )
        if wanted["Enabled"] == (now is not None):
            state = "enabled" if wanted["Enabled"] else "disabled"
            raise ApiError("ValidationException", f"TimeToLive is already {state}")
        table.expiry = Expiry(self._region, table, name) if wanted["Enabled"] else None
        if table.expiry is not None:
            table.expiry.look_at_all()
        return {"TimeToLiveSpecification": {"Enabled": wanted["Enabled"], "AttributeName": name}}

    def describe(self, params: Params) -> Params:
        expiry = self._region.dynamodb.table(params["TableName"]).expiry
        described = {"TimeToLiveStatus": "DISABLED" if expiry is None else "ENABLED"}
        if expiry is not None:
            described["AttributeName"] = expiry.attribute
        return {"TimeToLiveDescription": described}


class Expiry:
    """The items of one table that will be deleted, by the moment at which they will be.

    The queue may hold what no longer is so (the item was changed since): only what `_due` confirms
    is carried out.
    """

    def __init__(self, region: Region, table: Table, attribute: str) -> None:
        self.attribute = attribute
        self._region, self._table = region, table
        self._scheduler, self._physics = region.world.scheduler, region.world.physics
        self._rng: random.Random = region.world.rng(f"expiry {table.arn}")
        self._keys = [each["AttributeName"] for each in table.key_schema]
        self._due: dict[str, tuple[int, int, Item]] = {}
        """For each item: when it is over, when it will be deleted, and its key."""
        self._queue: list[tuple[int, str]] = []
        self._next_look: int | None = None

    def look_at_all(self) -> None:
        """Take in the items that were there before time to live was switched on."""
        stored = self._region.world.backing.table(self._region.name, self._table.name)
        for rows in (stored or {"items": {}})["items"].values():
            for item in rows.values():
                self._note(item, item)

    def note(self, change: Change) -> None:
        """An item changed: it may be over at another moment now, or never."""
        self._note(change.new or change.old or {}, change.new)

    def _note(self, named: Item, item: Item | None) -> None:
        key = {name: named[name] for name in self._keys}
        text = "|".join(key_text(value) for value in key.values())
        over = self._over(item)
        if over is None:
            self._due.pop(text, None)
        elif text not in self._due or self._due[text][0] != over:
            delay = between(self._rng, self._physics.expiry_delay)
            moment = max(over + 1, self._scheduler.now) + delay
            self._due[text] = over, moment, key
            heapq.heappush(self._queue, (moment, text))
            self._drop_what_no_longer_is_so()
            self._look_later()

    def _drop_what_no_longer_is_so(self) -> None:
        if len(self._queue) > 2 * len(self._due) + SLACK:
            self._queue = sorted((moment, text) for text, (_, moment, _) in self._due.items())

    def _over(self, item: Item | None) -> int | None:
        """The last moment of an item's life; None if it has no end, or one that is too old."""
        seconds = (item or {}).get(self.attribute, {}).get("N")
        if seconds is None:
            return None
        over = int(EXACT.multiply(Decimal(seconds), MICROSECONDS))
        return over if over >= self._scheduler.now - TOO_OLD else None

    def _look_later(self) -> None:
        if self._queue and (self._next_look is None or self._queue[0][0] < self._next_look):
            moment = self._next_look = self._queue[0][0]
            self._scheduler.after(moment - self._scheduler.now, lambda: self._look(moment))

    def _look(self, moment: int) -> None:
        """Delete what is due. A look that an earlier one made needless does nothing."""
        tables = self._region.dynamodb
        if (
            moment != self._next_look
            or self._table.expiry is not self
            or tables.tables.get(self._table.name) is not self._table
        ):
            return
        self._next_look = None
        while self._queue and self._queue[0][0] <= moment:
            due, text = heapq.heappop(self._queue)
            _, confirmed, key = self._due.get(text, (0, 0, {}))
            if confirmed == due:
                with self._region.world.gateway.turn():
                    tables.expire(self._table.name, key)
        self._look_later()
