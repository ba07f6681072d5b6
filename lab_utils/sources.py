"""The calls of the two stream services, in one shape: what lineage and reader stand on.

Only the public API is used, through the client that is given, so it works on every target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from botocore.exceptions import ClientError, EndpointResolutionError, ParamValidationError

from lab_utils.clock import pause
from lab_utils.errors import LabError
from lab_utils.refusals import error_code

Record = dict[str, Any]
"""A record as boto3 gives it."""

RETENTION = timedelta(hours=24)
"""So long a closed shard stays listed at least (Developer Guide: records are kept for a day)."""
HASHES = 2**128
"""Keys of a Kinesis stream are hashed to a number below this."""

BUSY = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "KMSThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
    }
)
"""Answers that ask for patience."""
BUSY_WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0)
"""Seconds before each further try, about a minute in all."""
LAG_WAITS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds before each further look at a listing that lags: about a minute in all, which is how long
AWS's own adapter (in its first version) waited for the children of a closed shard."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Shard(NamedTuple):
    """A shard as it is listed. `ending` is None while it is open; `size` is its share of the hashes
    (Kinesis only)."""

    id: str
    parents: tuple[str, ...]
    starting: int | None
    ending: int | None
    size: float | None


Shards = dict[str, Shard]


class Page(NamedTuple):
    """What one read brought. `iterator` leads on and is None at the end of a closed shard;
    `caught_up` if the service says that nothing newer is there; `children` if it names them."""

    records: list[Record]
    iterator: str | None
    caught_up: bool = False
    children: tuple[Shard, ...] = ()


def born(shard_id: str) -> datetime | None:
    """A DynamoDB shard's id begins with the milliseconds of its birth (observed, not promised)."""
    digits = shard_id[8:28]
    if shard_id[28:29] != "-" or not digits.isdecimal() or not (milliseconds := int(digits)):
        return None
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def children_of(shards: Iterable[Shard]) -> dict[str, list[str]]:
    """The listed children of each shard that is named as a parent; sorted if the shards are."""
    children: dict[str, list[str]] = {}
    for shard in shards:
        for parent in shard.parents:
            children.setdefault(parent, []).append(shard.id)
    return children


class Source(ABC):
    """One stream, seen through a client.

    `enabled`, `pages` and `listed_from`, the time of its first answer, tell of the latest listing.
    """

    most_records = 1000
    """So many records can be asked for at a time."""
    most_digits = 40
    """So long a sequence number can be (API reference)."""
    retention = RETENTION
    """What is older than this is gone for certain."""
    listed_from: datetime

    def __init__(self, client: Any, stream: str) -> None:
        self.client, self.stream = client, stream
        self.enabled, self.pages = True, 0
        self._date: str | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """The stream, named in one way only."""

    @property
    def now(self) -> datetime:
        """The service's own time, to the second, from the Date of its latest answer."""
        return datetime.now(UTC) if self._date is None else parsedate_to_datetime(self._date)

    # -- listing --------------------------------------------------------------------------------

    def shards(self, pace: float = 0.0) -> Shards:
        """Every shard that is listed, by its id, in the order of ids; `pace`: seconds a page."""
        found: list[Shard] = []
        self.pages = 0
        for page in self._listing():
            if not self.pages:
                self.listed_from = self.now
            elif pace:
                pause(self.client, pace)
            found += map(self._shard, page)
            self.pages += 1
        found.sort()
        return {shard.id: shard for shard in found}

    @abstractmethod
    def _listing(self) -> Iterator[list[dict[str, Any]]]: ...

    @abstractmethod
    def children(self, parent: str) -> list[Shard]:
        """The listed children of one shard, in the order of ids."""

    def _shard(self, listed: dict[str, Any]) -> Shard:
        numbers = listed["SequenceNumberRange"]
        starting, ending = (
            numbers.get("StartingSequenceNumber"),
            numbers.get("EndingSequenceNumber"),
        )
        parent = listed.get("ParentShardId")
        return Shard(
            listed["ShardId"],
            () if parent is None else (parent,),
            None if starting is None else int(starting),
            None if ending is None else int(ending),
            None,
        )

    # -- reading --------------------------------------------------------------------------------

    @abstractmethod
    def iterator(self, shard: str, kind: str, start: str | datetime | None = None) -> str:
        """An iterator of a shard; `start` is a sequence number or a time, as its kind wants."""

    @abstractmethod
    def read(self, iterator: str, limit: int) -> Page: ...

    @property
    @abstractmethod
    def knows_times(self) -> bool:
        """Whether reading can begin at a moment."""

    @staticmethod
    @abstractmethod
    def sequence_number(record: Record) -> str: ...

    @staticmethod
    @abstractmethod
    def created(record: Record) -> datetime: ...

    # -- calling --------------------------------------------------------------------------------

    def _call(self, operation: Callable[..., Any], **params: Any) -> Any:
        """Call, and call again while the service is busy; LabError after a minute."""
        waits = iter(BUSY_WAITS)
        while True:
            try:
                answer = operation(**params)
            except ClientError as problem:
                self._note_time(problem.response)
                code = error_code(problem)
                if code not in BUSY:
                    raise
                wait = next(waits, None)
                if wait is None:
                    raise StreamBusy(
                        f"{self.stream} has answered {code} for a minute: see who else reads "
                        "it (two readers a shard are allowed), or read on later."
                    ) from None
                pause(self.client, wait)
            else:
                self._note_time(answer)
                return answer

    def _note_time(self, answer: Any) -> None:
        """Refusals tell the time as well: after a pause they may be all there is."""
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self._date = headers.get("date", self._date)

    def _list(self, operation: Callable[..., Any], **params: Any) -> Any:
        """A call that names the stream: says in a sentence what is wrong with the name."""
        try:
            return self._call(operation, **params)
        except (EndpointResolutionError, ParamValidationError):
            raise self._misnamed() from None
        except ClientError as problem:
            code = error_code(problem)
            if code == "ResourceNotFoundException":
                raise StreamGone(
                    f"There is no stream {self.stream} here: {self._where_to_find_it()}"
                ) from None
            if code in ("ValidationException", "InvalidArgumentException"):
                raise self._misnamed() from None
            raise

    def _misnamed(self) -> LabError:
        return LabError(f"{self.stream!r} names no stream: {self._where_to_find_it()}")

    @abstractmethod
    def _where_to_find_it(self) -> str: ...


class StreamGone(LabError):
    """There is no such stream, or no more."""


class StreamBusy(LabError):
    """The stream has asked for patience for a minute."""


class TableSource(Source):
    """A stream of a DynamoDB table."""

    @property
    def name(self) -> str:
        return self.stream

    def _listing(self) -> Iterator[list[dict[str, Any]]]:
        page: dict[str, Any] = {}
        while True:
            described = self._describe(**page)
            yield described["Shards"]
            if "LastEvaluatedShardId" not in described:
                return
            page = {"ExclusiveStartShardId": described["LastEvaluatedShardId"]}

    def children(self, parent: str) -> list[Shard]:
        found: list[Shard] = []
        page: dict[str, Any] = {"ShardFilter": {"Type": "CHILD_SHARDS", "ShardId": parent}}
        while True:
            described = self._describe(**page)
            found += map(self._shard, described["Shards"])
            if "LastEvaluatedShardId" not in described:
                return sorted(each for each in found if parent in each.parents)
            page["ExclusiveStartShardId"] = described["LastEvaluatedShardId"]

    def _describe(self, **page: Any) -> dict[str, Any]:
        answer = self._list(self.client.describe_stream, StreamArn=self.stream, **page)
        described: dict[str, Any] = answer["StreamDescription"]
        self.enabled = not described.get("StreamStatus", "").startswith("DISABL")
        return described

    def _where_to_find_it(self) -> str:
        return (
            "take the LatestStreamArn of describe_table, from the same lab and Region; a stream "
            "that was disabled goes after a day."
        )

    def iterator(self, shard: str, kind: str, start: str | datetime | None = None) -> str:
        given: dict[str, Any] = {}
        if start is not None:
            given["Timestamp" if kind == "AT_TIMESTAMP" else "SequenceNumber"] = start
        answer = self._call(
            self.client.get_shard_iterator,
            StreamArn=self.stream,
            ShardId=shard,
            ShardIteratorType=kind,
            **given,
        )
        return str(answer["ShardIterator"])

    def read(self, iterator: str, limit: int) -> Page:
        answer = self._call(self.client.get_records, ShardIterator=iterator, Limit=limit)
        return Page(answer["Records"], answer.get("NextShardIterator"))

    @property
    def knows_times(self) -> bool:
        model = self.client.meta.service_model.operation_model("GetShardIterator")
        return "Timestamp" in model.input_shape.members

    @staticmethod
    def sequence_number(record: Record) -> str:
        number: str = record["dynamodb"]["SequenceNumber"]
        return number

    @staticmethod
    def created(record: Record) -> datetime:
        moment: datetime = record["dynamodb"]["ApproximateCreationDateTime"]
        return moment


class DataSource(Source):
    """A Kinesis data stream.

    Its API documents no error for a reader whose records were trimmed; here it goes on behind them.
    """

    most_records = 10_000
    most_digits = 129
    retention = timedelta(hours=8760)
    knows_times = True

    @property
    def name(self) -> str:
        return self.stream.rpartition("/")[2] if self.stream.startswith("arn:") else self.stream

    @property
    def _which(self) -> dict[str, str]:
        return {"StreamARN" if self.stream.startswith("arn:") else "StreamName": self.stream}

    def _listing(self, **first: str) -> Iterator[list[dict[str, Any]]]:
        page = {**self._which, **first}
        while True:
            answer = self._list(self.client.list_shards, **page)
            yield answer["Shards"]
            if "NextToken" not in answer:
                return
            page = {"NextToken": answer["NextToken"]}

    def children(self, parent: str) -> list[Shard]:
        later = (self._shard(each) for page in self._listing(ExclusiveStartShardId=parent)
                 for each in page)  # fmt: skip
        return sorted(shard for shard in later if parent in shard.parents)

    def _shard(self, listed: dict[str, Any]) -> Shard:
        shard = super()._shard(listed)
        hashes = listed["HashKeyRange"]
        share = (int(hashes["EndingHashKey"]) - int(hashes["StartingHashKey"]) + 1) / HASHES
        second = listed.get("AdjacentParentShardId")
        parents = shard.parents if second is None else (*shard.parents, second)
        return shard._replace(parents=parents, size=share)

    def _where_to_find_it(self) -> str:
        return "give the name or the StreamARN of a Kinesis stream of the same lab and Region."

    def iterator(self, shard: str, kind: str, start: str | datetime | None = None) -> str:
        given: dict[str, Any] = {}
        if start is not None:
            given["Timestamp" if kind == "AT_TIMESTAMP" else "StartingSequenceNumber"] = start
        answer = self._call(
            self.client.get_shard_iterator,
            **self._which,
            ShardId=shard,
            ShardIteratorType=kind,
            **given,
        )
        return str(answer["ShardIterator"])

    def read(self, iterator: str, limit: int) -> Page:
        answer = self._call(self.client.get_records, ShardIterator=iterator, Limit=limit)
        children = tuple(
            Shard(each["ShardId"], tuple(each["ParentShards"]), None, None, None)
            for each in answer.get("ChildShards", ())
        )
        records = answer["Records"]
        caught_up = not records and answer.get("MillisBehindLatest") == 0
        return Page(records, answer.get("NextShardIterator"), caught_up, children)

    @staticmethod
    def sequence_number(record: Record) -> str:
        number: str = record["SequenceNumber"]
        return number

    @staticmethod
    def created(record: Record) -> datetime:
        moment: datetime = record["ApproximateArrivalTimestamp"]
        return moment


def open_source(client: Any, stream: str, wanted_by: str) -> Source:
    """The stream behind a dynamodbstreams or kinesis client."""
    service = getattr(getattr(client, "meta", None), "service_model", None)
    name = getattr(service, "service_name", type(client).__name__)
    kinds: dict[str, type[Source]] = {"dynamodbstreams": TableSource, "kinesis": DataSource}
    if name not in kinds:
        raise LabError(
            f"{wanted_by} needs a dynamodbstreams or kinesis client, not {name}: "
            'get one with lab.client("dynamodbstreams").'
        )
    if not isinstance(stream, str) or not stream:
        raise LabError(
            f"{stream!r} names no stream: give its ARN, or the name of a Kinesis stream."
        )
    return kinds[name](client, stream)


def unlisted_parents(shards: Shards, now: datetime) -> Iterator[tuple[str, str]]:
    """Parents that are not listed although they must be, each with its child.

    A parent ends when its child is born, and is listed for a day from then on. `now` is the
    service's time, which it tells in whole seconds.
    """
    trimmed_before = now + timedelta(seconds=1) - RETENTION
    for shard in shards.values():
        for parent in shard.parents:
            if parent not in shards:
                birth = born(shard.id)
                if birth is not None and birth > trimmed_before:
                    yield parent, shard.id
