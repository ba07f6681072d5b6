"""What labs left behind: found by name and tag, removed in order.

On AWS names are the index and tags the authority: what carries a lab's id in its name is looked at,
and removed only if its tags say that this very lab made it. Where names are plain, all tags are
read. What is found depends on nothing that a lab remembers, so a session that died, or an answer
that was lost, makes no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from lab_utils.at_once import AT_ONCE, at_once, sleep
from lab_utils.clock import WallClock, wait_until
from lab_utils.errors import LabError
from lab_utils.kinds import KINDS, Clients, Found, Kind, Tags
from lab_utils.labels import ID_TAG, Label
from lab_utils.refusals import (
    DENIED,
    EXPIRED,
    THROTTLED,
    UNKNOWN,
    error_code,
    in_words,
    is_unknown_there,
)

Outcome = TypeVar("Outcome")

PASSING = THROTTLED | {
    "ConcurrentModification",
    "DeleteConflict",
    "LimitExceededException",
    "OperationAborted",
    "ResourceConflictException",
    "ResourceInUseException",
}
"""Refusals that pass: calls came too fast, or the last one is not known everywhere yet."""
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try, after those that the client has made itself."""
PATIENCE = 900.0
"""Seconds in which a resource is to become ready for its removal, and then to be gone. Assumed: of
mappings it is known that both take minutes."""
CHANGED = "its tags are no longer this lab's, so it is left alone"
"""What becomes of something that somebody else has laid hands on meanwhile."""
GOING = (None, "Deleting", "DELETING")
"""States of what needs no deletion any more."""
HOPELESS = EXPIRED | UNKNOWN
"""Refusals that every further call would meet."""


@dataclass(frozen=True)
class Leftover:
    """A resource that carries a lab's name or tags.

    `tagged` is whether its tags say that this lab made it; nothing else is ever removed. `region`
    is None where a kind knows no Regions.
    """

    kind: Kind
    found: Found
    label: Label
    tagged: bool
    region: str | None

    @property
    def name(self) -> str:
        """What it is called; of a mapping, its function's name."""
        return self.found.name

    def __str__(self) -> str:
        return f"{self.kind.name} {self.name}"


@dataclass(frozen=True)
class Findings:
    """All that labs left, in the order of its removal, and the kinds that could not be listed.

    `unseen` has the name of the refusal for each of them.
    """

    leftovers: tuple[Leftover, ...]
    unseen: dict[Kind, str]

    def left_alone(self) -> Iterator[str]:
        """A sentence, if something only looks like a lab's."""
        if alone := [str(leftover) for leftover in self.leftovers if not leftover.tagged]:
            yield f"Left alone, for want of the lab's tags: {', '.join(alone)}."

    def overlooked(self) -> Iterator[str]:
        """A sentence, if something may be there without being seen."""
        if kinds := [f"{kind.plural} ({why})" for kind, why in self.unseen.items()]:
            yield f"Not looked for, as they could not be listed: {', '.join(kinds)}."

    def check(self) -> None:
        """LabError if something may be there that could not be listed for now.

        What one may not list is no such thing: it is for whoever may.
        """
        if unknown := [kind.plural for kind, why in self.unseen.items() if why not in DENIED]:
            raise LabError(f"Whether {', '.join(unknown)} are left is not known: try again.")


@dataclass(frozen=True)
class Removal:
    """What was removed, and why the rest could not be."""

    removed: tuple[Leftover, ...]
    failed: dict[Leftover, str]

    def told(self) -> Iterator[str]:
        """A sentence about what went."""
        if self.removed:
            yield f"Removed {counted(self.removed)}."
        elif not self.failed:
            yield "Nothing was left to remove."

    def check(self) -> None:
        """Name what is left, if anything is."""
        if self.failed:
            raise LabError(
                "Not everything could be removed: try again, or remove by hand what is left: "
                + "; ".join(f"{leftover}: {why}" for leftover, why in self.failed.items())
            )


def labels_there(client: Clients) -> dict[Label, int]:
    """Which labs' ids stand in names, and in how many of them; no tag is read."""
    found, _ = _listed(client, KINDS)
    labels = (Label.within(each.called) for _, each in found)
    return dict(sorted(Counter(filter(None, labels)).items()))


def find(
    client: Clients,
    *,
    label: Label | None = None,
    in_names: bool = True,
    kinds: Sequence[Kind] = KINDS,
) -> Findings:
    """What labs, or the one with this `label`, left in the Region of these clients.

    `in_names` is whether names carry the label there.
    """
    there, unseen = _listed(client, kinds)
    if in_names:
        there = [each for each in there if _is_wanted(Label.within(each[1].called), label)]

    tags = at_once(*(partial(_tags, client, *each) for each in there), doing="reading their tags")
    leftovers = []
    for (kind, found), its_tags in zip(there, tags, strict=True):
        if its_tags is None:
            continue  # gone since it was listed, or listed a little longer than it was there
        claimed = Label.within(found.called if in_names else its_tags.get(ID_TAG, ""))
        if claimed is not None and _is_wanted(claimed, label):
            region = None if kind.everywhere else str(client(kind.service).meta.region_name)
            leftovers.append(Leftover(kind, found, claimed, claimed.owns(its_tags), region))
    return Findings(tuple(leftovers), unseen)


def remove(client: Clients, leftovers: Iterable[Leftover]) -> Removal:
    """Remove what is tagged, stage by stage, and wait until it is gone.

    Tags are read once more before each deletion, for whoever was asked may have taken an hour to
    answer. What can't be removed is told, and the rest is removed all the same. An error of
    botocore's means that nothing more can be done at present; what is gone by then is gone.
    """
    in_order = sorted((each for each in leftovers if each.tagged), key=_stage)
    failed: dict[Leftover, str] = {}

    def delete(leftover: Leftover) -> None:
        kind, service = leftover.kind, client(leftover.kind.service)
        tags = kind.tags(service, leftover.found)
        if tags is None or leftover.label.owns(tags):
            kind.delete(service, leftover.found.identity)
        else:
            failed[leftover] = CHANGED

    for _, stage in groupby(in_order, key=_stage):
        those = list(stage)
        awaited = f"{counted(those)} can be deleted, once nothing is on its way"
        states = _wait(client, those, failed, _is_settled, awaited)
        there = [x for x in those if x not in failed and states.get(x, "") not in GOING]
        _each(delete, there, failed, f"removing {counted(there)}")
        deleted = [each for each in those if each not in failed and each.kind.lingers]
        _wait(client, deleted, failed, _is_gone, f"{counted(deleted)} are gone")
    return Removal(tuple(each for each in in_order if each not in failed), failed)


def clear(client: Clients, label: Label, in_names: bool) -> tuple[Findings, Removal]:
    """Remove all of one lab: look, remove, and look again until nothing new is found.

    What was made a moment ago can be missing in the first listing. The findings are the last ones.
    """
    removed: list[Leftover] = []
    failed: dict[Leftover, str] = {}
    while True:
        found = find(client, label=label, in_names=in_names)
        done = {*removed, *failed}
        new = [each for each in found.leftovers if each.tagged and each not in done]
        if not new:
            return found, Removal(tuple(removed), failed)
        removal = remove(client, new)
        removed.extend(removal.removed)
        failed.update(removal.failed)


def counted(leftovers: Iterable[Leftover]) -> str:
    """Such as `3 mappings, 3 functions, 1 table`, in the order of their removal."""
    numbers = Counter(leftover.kind for leftover in leftovers)
    return ", ".join(kind.counted(numbers[kind]) for kind in KINDS if numbers[kind])


def _stage(leftover: Leftover) -> int:
    return leftover.kind.stage


def _is_wanted(claimed: Label | None, label: Label | None) -> bool:
    return claimed is not None and label in (None, claimed)


def _listed(
    client: Clients, kinds: Sequence[Kind]
) -> tuple[list[tuple[Kind, Found]], dict[Kind, str]]:
    """All resources of these kinds, and the kinds that could not be listed."""
    unseen: dict[Kind, str] = {}

    def listing(kind: Kind) -> list[tuple[Kind, Found]]:
        try:
            return [
                (kind, each) for each in _patiently(lambda: list(kind.all(client(kind.service))))
            ]
        except ClientError as problem:
            if error_code(problem) in HOPELESS:
                raise
            if not is_unknown_there(problem):
                unseen[kind] = error_code(problem)
            return []

    answers = at_once(*(partial(listing, kind) for kind in kinds), doing="looking for leftovers")
    return list(chain.from_iterable(answers)), unseen


def _tags(client: Clients, kind: Kind, found: Found) -> Tags | None:
    """The tags of one; None if it is gone.

    While AWS makes a table it does not find it when it is asked for the table's tags (observed), so
    who has no tags is asked again until it is there.
    """
    service = client(kind.service)
    tags: Tags | None = None

    def known() -> bool:
        nonlocal tags
        tags = _patiently(lambda: kind.tags(service, found))
        if tags:
            return True
        state = _patiently(lambda: kind.state_of(service, found.identity))
        made = tags is not None and state not in kind.unsettled
        return made or state in ("", *GOING)

    known.__doc__ = f"the tags of {kind.name} {found.name} are known"
    wait_until(WallClock(), known, PATIENCE)
    return tags


def _each(
    act: Callable[[Leftover], Outcome],
    those: Sequence[Leftover],
    failed: dict[Leftover, str],
    doing: str = "",
) -> dict[Leftover, Outcome]:
    """Do it to each; what one of them is refused is noted, what concerns all is raised."""
    outcomes: dict[Leftover, Outcome] = {}
    hopeless: list[Exception] = []

    def attempt(leftover: Leftover) -> None:
        if hopeless:
            return
        try:
            outcomes[leftover] = _patiently(lambda: act(leftover))
        except ClientError as problem:
            if error_code(problem) in HOPELESS:
                hopeless.append(problem)
            else:
                failed[leftover] = in_words(problem, "removing it", 0) or str(problem)
        except BotoCoreError as problem:
            hopeless.append(problem)

    at_once(*(partial(attempt, leftover) for leftover in those), doing=doing)
    if hopeless:
        raise hopeless[0]
    return outcomes


def _wait(
    client: Clients,
    those: Sequence[Leftover],
    failed: dict[Leftover, str],
    done: Callable[[Leftover, str | None], bool],
    awaited: str,
) -> dict[Leftover, str | None]:
    """Wait until all of those whose state is known are done with it; the state that each is in."""
    states: dict[Leftover, str | None] = {}
    pending = [each for each in those if each.kind.state]

    def over() -> bool:
        nonlocal pending
        while pending:
            some, rest = pending[:AT_ONCE], pending[AT_ONCE:]
            states.update(_each(partial(_state, client), some, failed))
            waiting = [x for x in some if x not in failed and not done(x, states[x])]
            pending = waiting + rest
            if waiting:
                return False
        return True

    over.__doc__ = awaited
    try:
        wait_until(WallClock(), over, PATIENCE)
    except TimeoutError:
        for each in pending:
            failed[each] = f"it is still {states.get(each)} after {PATIENCE / 60:.0f} minutes"
    return states


def _state(client: Clients, leftover: Leftover) -> str | None:
    return leftover.kind.state_of(client(leftover.kind.service), leftover.found.identity)


def _is_settled(leftover: Leftover, state: str | None) -> bool:
    return state not in leftover.kind.unsettled


def _is_gone(_: Leftover, state: str | None) -> bool:
    return state is None


def _patiently(call: Callable[[], Outcome]) -> Outcome:
    """The call's answer; refusals that pass are waited for."""
    for seconds in WAITS:
        try:
            return call()
        except ClientError as problem:
            if error_code(problem) not in PASSING:
                raise
        sleep(seconds)
    return call()
