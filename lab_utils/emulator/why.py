"""In words: what the pollers of a mapping are doing, and why nothing arrived.

Everything told here is looked up in the mapping at this moment; nothing is changed by asking.
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill
from typing import TYPE_CHECKING

from lab_utils.emulator.physics import MICROSECONDS

if TYPE_CHECKING:
    from lab_utils.emulator.event_source_mappings import EventSourceMappings, Mapping
    from lab_utils.emulator.lanes import Lane
    from lab_utils.emulator.pollers import Poller

WIDTH = 76
SHOWN = 12
"""So many lines about single lanes; the others are counted."""


class Words(str):
    """Text that also looks like text as the last line of a cell."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def why(mappings: EventSourceMappings, mapping: Mapping) -> Words:
    """A mapping's state, its pollers one by one, and what stands in the way of its records."""
    stream = mapping.source.arn.split(":", 5)[-1]
    lines = [f"{mapping.function} reads {stream}", f"{mapping.state}. {mapping.last_result}"]
    reasons = [*_about_the_mapping(mappings, mapping), *_about_the_records(mappings, mapping)]
    lines += [f"- {each}" for each in reasons]
    lines += _about_the_pollers(mapping)
    return Words("\n".join(fill(each, WIDTH, subsequent_indent="    ") for each in lines))


# -- reasons ------------------------------------------------------------------------------------


def _about_the_mapping(mappings: EventSourceMappings, mapping: Mapping) -> Iterator[str]:
    """What keeps the whole mapping from handing anything over."""
    if mapping.deleted:
        yield "It is being deleted: nothing more is handed over."
    elif mappings.source_is_gone(mapping):
        yield (
            "The stream that it reads is gone, and what waited there with it; one of the same name "
            "that was made later is not read: delete the mapping and create it anew."
        )
    elif mapping.state == "Creating":
        yield "It is still being created: no shard is read yet."
        if mapping.enabled and mapping.start == "LATEST":
            yield "LATEST is decided when polling starts: what is written until then is missed."
    elif mapping.state == "Disabled":
        yield "It is disabled: nothing is read, and records expire meanwhile. Enable it."
    elif mapping.state != "Enabled":
        yield f"It is {mapping.state}: the settings that were asked for are not heeded yet."
    function = mappings.functions.find(mapping.active.function)
    if function is None:
        yield f"Its function {mapping.active.function.rpartition('function:')[2]} is not there."
    elif function.reserved == 0:
        yield "The function's reserved concurrency is 0: every invocation is throttled."
    elif any(lane.doing == "throttled" for lane in _lanes(mapping)):
        own = f"function's reserved concurrency of {function.reserved}"
        limit = own if function.reserved else "account's concurrency"
        yield f"The {limit} is in use: lanes are throttled and ask again."
    if any(poller.refused for poller in mapping.pollers.values()):
        yield "The function's role may not read the stream (any more): nothing is read."


def _about_the_records(mappings: EventSourceMappings, mapping: Mapping) -> Iterator[str]:
    """What became of records that the function never got."""
    pollers = list(mapping.pollers.values())
    if mapping.watching and mapping.start == "LATEST":
        missed = sum(_before(poller, mapping.polls_since) for poller in pollers)
        if missed:
            yield (
                f"Polling began at {_clock(mapping.polls_since)}, at LATEST: {_many(missed)} that "
                "came before in these shards are not read. TRIM_HORIZON would have read them."
            )
    filtered, polled = (
        sum(poller.filtered for poller in pollers),
        sum(poller.polled for poller in pollers),
    )
    if filtered:
        all_of_them = " all of" if filtered == polled else ""
        yield f"The filters kept out{all_of_them} {filtered:,} of {_many(polled)} that were read."
    skipped = sum(poller.skipped for poller in pollers)
    if skipped:
        how = "went with the stream" if mappings.source_is_gone(mapping) else "expired"
        yield f"{_many(skipped)} {how} before they were done with: they are lost."
    throttled = sum(poller.throttled for poller in pollers)
    if throttled:
        most = max(poller.shard.pollers for poller in pollers)
        yield (
            f"{throttled:,} polls were throttled: {most} mappings read these shards, more than "
            "their limit on reads has room for."
        )
    if polled == 0 and mapping.state == "Enabled" and not any(map(_behind, pollers)):
        yield "No record has come into its shards since it began to read them."


def _before(poller: Poller, moment: int) -> int:
    """How many records of a poller's shard came before a moment and are still there, unread."""
    shard = poller.shard
    return sum(
        record.at <= moment for record in shard.records[: max(0, poller.first - shard.trimmed)]
    )


# -- pollers ------------------------------------------------------------------------------------


def _about_the_pollers(mapping: Mapping) -> list[str]:
    """A line for each poller that has something to tell, and a count of the others."""
    lines, quiet, finished, paused = [], 0, 0, 0
    for poller in mapping.pollers.values():
        if poller.over:
            finished += 1
        elif poller.paused and all(lane.still for lane in poller.lanes):
            paused += 1
        elif _is_quiet(poller):
            quiet += 1
        else:
            lines += [
                f"  {poller.shard.id}{_lane(poller, lane)}: {_doing(lane)}"
                for lane in poller.lanes
                if lane.doing != "waiting" or lane.holds
            ] or [f"  {poller.shard.id}: {_many(_behind(poller))} behind"]
    waiting = sum(len(shards) for shards in mapping.waiting.values())
    more = len(lines) - SHOWN
    lines = lines[:SHOWN] + ([f"  and {more} more lanes at work"] if more > 0 else [])
    if quiet:
        lines.append(f"  {_shards(quiet)} read to the present end, waiting for records")
    if paused:
        lines.append(f"  {_shards(paused)} not read at present")
    if waiting:
        lines.append(f"  {_shards(waiting)} waiting for a parent to be read to its end")
    if finished:
        lines.append(f"  {_shards(finished)} closed and read to the end")
    return lines


def _is_quiet(poller: Poller) -> bool:
    waits = all(lane.doing in ("waiting", "done") and not lane.holds for lane in poller.lanes)
    return waits and not _behind(poller)


def _behind(poller: Poller) -> int:
    """How many records of its shard a poller is not done with."""
    return poller.shard.end - max(poller.position, poller.shard.trimmed)


def _lane(poller: Poller, lane: Lane) -> str:
    return f" lane {lane.number}" if len(poller.lanes) > 1 else ""


def _doing(lane: Lane) -> str:
    held = _many(lane.holds)
    since = _clock(lane.since)
    return {
        "waiting": f"about to take up {held}",
        "collecting": f"collecting a batch since {since}, {held} so far",
        "working": f"{held} at hand, with the function since {since}",
        "backing off": f"{held} at hand, waiting since {since} after try {lane.tries} failed",
        "throttled": f"{held} at hand, throttled {lane.tries:,} times in a row",
        "missing": f"{held} at hand, and no function to give them to",
        "paused": f"paused since {since}",
        "done": "done",
    }[lane.doing]


def _lanes(mapping: Mapping) -> Iterator[Lane]:
    for poller in mapping.pollers.values():
        yield from poller.lanes


def _many(records: int) -> str:
    return f"{records:,} record{'s' * (records != 1)}"


def _shards(count: int) -> str:
    return f"{count:,} shard{'s' * (count != 1)}"


def _clock(moment: int) -> str:
    seconds = moment // MICROSECONDS % 86_400
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
