"""`python -m lab_utils sweep`: what labs left behind, shown and removed."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cache, partial
from itertools import groupby
from textwrap import fill
from threading import Lock
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from lab_utils.commands import Commands
from lab_utils.errors import LabError
from lab_utils.kinds import KINDS, Clients
from lab_utils.labels import Label
from lab_utils.progress import progress
from lab_utils.refusals import UNKNOWN, UNREACHED, error_code, explained
from lab_utils.sweep import Findings, Leftover, Removal, counted, find, remove

WIDTH = 100
OF_A_REGION = tuple(kind for kind in KINDS if not kind.everywhere)


class Place(NamedTuple):
    """A Region, its clients, and what was found there."""

    region: str
    client: Clients
    findings: Findings


def add(commands: Commands) -> None:
    """Declare the command."""
    sweeping = commands.add_parser(
        "sweep",
        help="remove what labs left behind",
        description="Find by name and tag what labs left on AWS or LocalStack, show it, ask, and "
        "remove it. Nothing is removed that does not carry a lab's tags. It means everybody's "
        "labs, in use or not: --lab and --expired mean fewer. Running it twice does no harm.",
    )
    where = sweeping.add_mutually_exclusive_group()
    where.add_argument("--region", help="the Region to look at, if it is not your usual one")
    where.add_argument("--all-regions", action="store_true", help="look at every Region")
    sweeping.add_argument(
        "--target",
        choices=("aws", "localstack"),
        default="localstack" if os.environ.get("LAB_TARGET") == "localstack" else "aws",
        help="who answers: whatever your credentials and AWS_ENDPOINT_URL name, or LocalStack",
    )
    sweeping.add_argument("--lab", metavar="ID", type=_label, help="this lab only")
    sweeping.add_argument("--expired", action="store_true", help="only labs that are over")
    sweeping.add_argument("--yes", action="store_true", help="remove it without asking")
    sweeping.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Look, show, ask, remove."""
    now = datetime.now(UTC)
    with explained("looking for what labs left"):
        places = list(_look(options))
    found = [each for place in places for each in place.findings.leftovers]
    if options.expired:
        found = [each for each in found if each.label.expires <= now]
    for line in _shown(found, now):
        print(line)
    if not found:
        print(f"Nothing of {_wanted(options)} is there.")
    elif not (tagged := [each for each in found if each.tagged]):
        print("Nothing of that may be removed.")
    elif _agreed(tagged, now, unasked=options.yes):
        with explained("removing what labs left"):
            _remove(places, tagged)
    for place in places if options.target == "aws" else ():
        place.findings.check()
    return 0


# -- looking --------------------------------------------------------------------------------------


def _look(options: argparse.Namespace) -> Iterator[Place]:
    """Every Region that lets us look; what knows no Regions is shown with the first."""
    on_aws, kinds = options.target == "aws", KINDS
    clients = _on_aws(options) if on_aws else _on_localstack(options)
    for region, client in clients:
        try:
            findings = find(client, label=options.lab, in_names=on_aws, kinds=kinds)
        except (BotoCoreError, ClientError) as problem:
            if kinds is KINDS or not _is_shut(problem):
                raise
            print(f"{region} is left out, for it does not answer to your account.")
            continue
        kinds = OF_A_REGION
        for sentence in findings.overlooked():
            print(f"{region}: {sentence}")
        yield Place(region, client, findings)


def _on_aws(options: argparse.Namespace) -> Iterator[tuple[str, Clients]]:
    """The Regions asked for, the usual one first; whose they are is said before."""
    from lab_utils import account
    from lab_utils.targets import SERVICES

    session, manners = account.open_session(options.region), account.manners()
    usual = account.region_of(session, SERVICES)

    def clients(region: str) -> Clients:
        return _kept(partial(session.client, region_name=region, config=manners))

    here = clients(usual)
    account.one_place(here, SERVICES)
    number, identity = account.who_asks(here)
    print(f"Account {number}, as {identity}")
    regions = [usual]
    if options.all_regions:
        partition = session.get_partition_for_region(usual)
        every = session.get_available_regions("dynamodb", partition_name=partition)
        regions += sorted(set(every) - {usual})
    for region in progress(regions, "looking at every Region") if regions[1:] else regions:
        yield region, here if region == usual else clients(region)


def _on_localstack(options: argparse.Namespace) -> Iterator[tuple[str, Clients]]:
    from lab_utils.localstack import LocalStack

    if options.region or options.all_regions:
        raise LabError(f"On LocalStack labs use {LocalStack.region} alone: name no Region.")
    target = LocalStack()
    yield target.region, _kept(target.make_client)


def _kept(make_client: Callable[[str], Any]) -> Clients:
    """Clients that are made when they are first wanted, one at a time."""
    one_by_one, kept = Lock(), cache(make_client)

    def client(service: str) -> Any:
        with one_by_one:
            return kept(service)

    return client


def _is_shut(problem: BotoCoreError | ClientError) -> bool:
    """Whether a Region that is not the usual one is not enabled, or not to be reached."""
    return (
        error_code(problem) in UNKNOWN
        if isinstance(problem, ClientError)
        else isinstance(problem, UNREACHED)
    )


# -- showing and removing -------------------------------------------------------------------------


def _shown(leftovers: Iterable[Leftover], now: datetime) -> Iterator[str]:
    """Lab by lab, Region by Region and kind by kind."""

    def place(each: Leftover) -> tuple[Any, ...]:
        return each.label, each.region is None, each.region, KINDS.index(each.kind), each.tagged

    for label, its_own in groupby(sorted(leftovers, key=place), key=lambda each: each.label):
        state = "expired" if label.expires <= now else "in use until"
        yield f"{label}, {state} {label.expires:%Y-%m-%d %H:%M} UTC"
        for (_, _, region, _, tagged), those in groupby(its_own, key=place):
            row = list(those)
            names = ", ".join(sorted(each.name.removesuffix(f"-{label}") for each in row))
            note = "" if tagged else ", without the lab's tags: left alone"
            text = f"{region or 'all Regions'}: {counted(row)} ({names}){note}"
            yield fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _wanted(options: argparse.Namespace) -> str:
    """What was looked for, in words."""
    whose = str(options.lab or "any lab")
    return f"{whose} that has expired" if options.expired else whose


def _agreed(leftovers: list[Leftover], now: datetime, *, unasked: bool) -> bool:
    live = sorted({each.label.id for each in leftovers if each.label.expires > now})
    if live:
        print(f"! Whoever works in {', '.join(live)} loses everything there.")
    if unasked:
        return True
    if not sys.stdin.isatty():
        print("Nothing is removed, as there is nobody to ask: say --yes.")
        return False
    try:
        return input("Remove all that carries a lab's tags? [y/N] ").strip().lower() == "y"
    except EOFError:
        return False


def _remove(places: list[Place], leftovers: list[Leftover]) -> None:
    """What knows no Regions goes last, for every Region may use it."""
    wanted = set(leftovers)
    removals = [
        remove(place.client, (x for x in place.findings.leftovers if x in wanted and x.region))
        for place in places
    ]
    removals.append(remove(places[0].client, (x for x in leftovers if not x.region)))
    whole = Removal(
        tuple(each for removal in removals for each in removal.removed),
        {each: why for removal in removals for each, why in removal.failed.items()},
    )
    print(*whole.told(), sep="\n")
    whole.check()


def _label(text: str) -> Label:
    label = Label.within(text)
    if label is None or label.id != text:
        raise argparse.ArgumentTypeError("a lab's id looks like lab-7f3a9c-2611260314")
    return label
