"""In which shard a record lies, for those who know no more of it than its sequence number.

The records of a table that a function is given name their stream, but not their shard. Numbers are
comparable inside a shard only, and those of shards that are open side by side overlap; so the
shards are read, and what is not met there is not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable

from lab_utils.reader import EMPTY_ANSWERS
from lab_utils.sources import Shard, Source


def shards_of(source: Source, numbers: Iterable[int]) -> dict[int, str]:
    """The shard of each sequence number; those that no shard has (any more) are left out.

    It reads each shard up to the last of them, which makes it one more reader of the stream: two a
    shard are allowed (Developer Guide).
    """
    missing, found = set(numbers), dict[int, str]()
    for shard in source.shards().values():
        met = _met(source, shard, {number for number in missing if _may_hold(shard, number)})
        found |= dict.fromkeys(met, shard.id)
        missing -= met
    return found


def _may_hold(shard: Shard, number: int) -> bool:
    """Whether the number is in the range that is listed for the shard."""
    begins_before = shard.starting is None or shard.starting <= number
    return begins_before and (shard.ending is None or number <= shard.ending)


def _met(source: Source, shard: Shard, wanted: set[int]) -> set[int]:
    """Those of the numbers that a shard's records have."""
    met = set[int]()
    iterator = source.iterator(shard.id, "TRIM_HORIZON") if wanted else None
    empty = 0
    while iterator is not None and empty < EMPTY_ANSWERS:
        page = source.read(iterator, source.most_records)
        numbers = [int(source.sequence_number(record)) for record in page.records]
        met |= wanted.intersection(numbers)
        if met == wanted or (numbers and numbers[-1] >= max(wanted)):
            break
        iterator, empty = page.iterator, 0 if numbers else empty + 1
    return met
