"""Which lab a resource belongs to, and until when: in its name and in its tags.

On AWS everything that a lab makes carries the lab's id. The id holds the moment at which the lab
expires, so that a list of names tells which labs there are and which of them are over; what may be
removed is told by the tags alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

ID_TAG = "lab-id"
EXPIRES_TAG = "lab-expires"
MADE_BY_TAG = "lab-made-by"
MADE_BY = "how-change-leaves-dynamodb"

_ID = re.compile(r"lab-(?P<desk>[0-9a-f]{6})-(?P<expires>\d{10})(?!\d)")
_EXPIRES = "%y%m%d%H%M"


@dataclass(frozen=True, order=True)
class Label:
    """A lab's id: the desk at which it was opened (six hex digits), and when it expires (UTC)."""

    expires: datetime
    desk: str

    @property
    def id(self) -> str:
        """Such as `lab-7f3a9c-2611260314`: valid in the name of every kind of resource."""
        return f"lab-{self.desk}-{self.expires:{_EXPIRES}}"

    @property
    def tags(self) -> dict[str, str]:
        """What every resource of the lab carries."""
        return {
            ID_TAG: self.id,
            EXPIRES_TAG: f"{self.expires:%Y-%m-%dT%H:%MZ}",
            MADE_BY_TAG: MADE_BY,
        }

    def name(self, plain: str) -> str:
        """`Orders` becomes `Orders-lab-7f3a9c-2611260314`; a name that has it stays as it is."""
        return plain if plain.endswith(self.id) else f"{plain}-{self.id}"

    def owns(self, tags: dict[str, str]) -> bool:
        """Whether these are the tags of a resource that this lab made."""
        return tags.get(ID_TAG) == self.id and tags.get(MADE_BY_TAG) == MADE_BY

    @staticmethod
    def within(text: str) -> Label | None:
        """The label in a name, an ARN or an id, the last one if there are several, or None.

        A name of yesterday's lab that is given to today's has both ids, and is today's.
        """
        found = list(_ID.finditer(text))
        if not found:
            return None
        try:
            expires = datetime.strptime(found[-1]["expires"], _EXPIRES).replace(tzinfo=UTC)
        except ValueError:  # ten digits that are no date
            return None
        return Label(expires, found[-1]["desk"])

    def __str__(self) -> str:
        return self.id
