"""What reads and writes cost, what a partition and a table can take, and how AWS refuses more.

Costs are counted in whole millionths of a unit: a bucket that fills with so many units a second
gains so many millionths in a microsecond, and all sums are exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.physics import KB, MICROSECONDS, Physics, microseconds

Params = dict[str, Any]

UNIT = MICROSECONDS
"""One capacity unit, in the millionths that buckets count."""
CALL = 1000
"""A call in thousandths, which the buckets of calls count: their rates need not be whole."""
KINDS = ("Write", "Read")
WRITE, READ = 0, 1
"""Which of two lanes: everything here exists once for writes and once for reads."""

HOT_KEY_PAGE = (
    "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html"
)
ON_DEMAND_PAGE = (
    "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/"
    "on-demand-capacity-mode.html#on-demand-capacity-mode-initial"
)
PROVISIONED_EXCEEDED = (
    "The level of configured provisioned throughput for the table was exceeded. "
    "Consider increasing your provisioning level with the UpdateTable API."
)
ON_DEMAND_EXCEEDED = (
    "Throughput exceeds the current capacity of your table or index. DynamoDB is automatically "
    "scaling your table or index so please try again shortly. If exceptions persist, check if you "
    f"have a hot key: {HOT_KEY_PAGE}"
)
INVALID = "One or more parameter values were invalid: "


# -- costs --------------------------------------------------------------------------------------


def write_cost(size: int) -> int:
    """Of a write whose item has so many bytes, the larger of before and after: a unit for each KB.

    (Developer Guide, read and write operations; twice as much in a transaction.)
    """
    return UNIT * (-(-size // KB) or 1)


def read_cost(size: int, consistent: bool) -> int:
    """Of a read of so many bytes: a unit for each 4 KB, half if it is eventually consistent."""
    cost = UNIT * (-(-size // (4 * KB)) or 1)
    return cost if consistent else cost // 2


# -- buckets ------------------------------------------------------------------------------------


class Bucket:
    """Capacity that was not used, up to a number of seconds of it; filled when it is looked at.

    A request is let in while there is anything in it and then takes what it really cost, so one
    large item leaves a debt that the next requests wait for. `rate` in units a second; a new
    bucket holds one second's worth, as nothing was left unused yet.
    """

    __slots__ = ("at", "level", "most", "rate")

    def __init__(self, rate: int, seconds: float, now: int) -> None:
        self.rate, self.at = rate, now
        self.most = rate * microseconds(seconds)
        self.level = min(rate * UNIT, self.most)

    def fill(self, now: int) -> int:
        """What is in it at a moment, in millionths of a unit; below zero it is in debt."""
        if now > self.at:
            self.level = min(self.most, self.level + self.rate * (now - self.at))
            self.at = now
        return self.level

    def take(self, cost: int, now: int) -> int:
        """Take a cost out; the moment from which on it lets requests in again."""
        level = self.fill(now) - cost
        self.level = level
        return now if level > 0 else now - level // self.rate + 1

    def share(self, parts: int, now: int) -> Bucket:
        """The bucket of one of so many equal parts, each with the rate of the whole."""
        part = Bucket(self.rate, 0, now)
        part.most, part.level = self.most, self.fill(now) // parts
        return part

    def at_rate(self, rate: int, seconds: float, now: int) -> Bucket:
        """The same savings, as far as they fit, at another rate."""
        changed = Bucket(rate, seconds, now)
        changed.level = min(self.fill(now), changed.most)
        return changed


def calls(rate: float, seconds: float, now: int) -> Bucket:
    """So many calls a second, with so many seconds of unused ones kept; full at first."""
    bucket = Bucket(max(1, round(rate * CALL)), seconds, now)
    bucket.level = bucket.most = max(bucket.most, CALL * UNIT)
    return bucket


def may_call(bucket: Bucket, now: int) -> bool:
    """Whether one more call is let in; it is counted if it is."""
    if bucket.fill(now) < CALL * UNIT:
        return False
    bucket.take(CALL * UNIT, now)
    return True


def calls_left(bucket: Bucket | None, left: float, rate: float, seconds: float, now: int) -> Bucket:
    """The calls of those who read a shard by hand: what mappings leave of its rate, and one call a
    second at the least (assumed). A shard that nobody has read yet has no bucket."""
    if bucket is None:
        bucket = calls(rate, seconds, now)
    allowed = max(1, round(min(max(1.0, left), rate) * CALL))
    return bucket if bucket.rate == allowed else bucket.at_rate(allowed, seconds, now)


class Debts:
    """Until when any bucket anywhere may be in debt. Before that moment requests are looked at;
    after it every bucket lets them in, and nobody needs to ask which it would be."""

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = 0


# -- refusals -----------------------------------------------------------------------------------


def throttling_reasons(kind: int, limits: Iterable[str], arn: str) -> list[Params]:
    """`limits`: KeyRange for a partition's ceiling, Provisioned for the table's throughput."""
    return [
        {"reason": f"Table{KINDS[kind]}{limit}ThroughputExceeded", "resource": arn}
        for limit in limits
    ]


def throttled(on_demand: bool, reasons: list[Params]) -> ApiError:
    """AWS's error for too many requests (API reference; botocore's model spells the members so)."""
    if on_demand:
        return ApiError("ThrottlingException", ON_DEMAND_EXCEEDED, throttlingReasons=reasons)
    return ApiError(
        "ProvisionedThroughputExceededException", PROVISIONED_EXCEEDED, ThrottlingReasons=reasons
    )


def cancellation_reason(on_demand: bool) -> Params:
    """Why a throttled member cancels its transaction (API reference, TransactionCanceled...)."""
    if on_demand:
        return {"Code": "ThrottlingError", "Message": ON_DEMAND_EXCEEDED}
    return {"Code": "ProvisionedThroughputExceeded", "Message": PROVISIONED_EXCEEDED}


# -- what a table asks for ----------------------------------------------------------------------


def check_provisioned(params: Params) -> None:
    """Refuse a ProvisionedThroughput that is none, in the words that AWS was seen to use."""
    given = params.get("ProvisionedThroughput")
    if given is None:
        return
    errors = []
    for name, path in (("WriteCapacityUnits", "writeCapacityUnits"),
                       ("ReadCapacityUnits", "readCapacityUnits")):  # fmt: skip
        value = given.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise _no_number(value)
        if value is None or value < 1:
            shown = "null" if value is None else f"'{value}'"
            must = "not be null" if value is None else "have value greater than or equal to 1"
            errors.append(
                f"Value {shown} at 'provisionedThroughput.{path}' failed to satisfy constraint: "
                f"Member must {must}"
            )
    if errors:
        count = f"{len(errors)} validation error{'s' if len(errors) > 1 else ''} detected: "
        raise ApiError("ValidationException", count + "; ".join(errors))


def check_billing(params: Params, on_demand: bool, current: tuple[int, int]) -> None:
    """Refuse an UpdateTable whose billing mode and throughput do not fit (words as observed).

    `current` is what is provisioned now: (reads, writes).
    """
    given, mode = params.get("ProvisionedThroughput"), params.get("BillingMode")
    if mode == "PROVISIONED" and given is None:
        raise _invalid("ProvisionedThroughput must be specified when BillingMode is PROVISIONED")
    if given is None:
        return
    if mode == "PAY_PER_REQUEST":
        raise _invalid(
            "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when "
            "BillingMode is PAY_PER_REQUEST"
        )
    if on_demand and mode is None:
        raise _invalid(
            "ProvisionedThroughput cannot be specified when BillingMode is PAY_PER_REQUEST"
        )
    wanted = given["ReadCapacityUnits"], given["WriteCapacityUnits"]
    if wanted == current and not on_demand:
        (reads, writes), (more_reads, more_writes) = current, wanted
        raise ApiError(
            "ValidationException",
            "The provisioned throughput for the table will not change. The requested value equals "
            f"the current value. Current ReadCapacityUnits provisioned for the table: {reads}. "
            f"Requested ReadCapacityUnits: {more_reads}. Current WriteCapacityUnits provisioned "
            f"for the table: {writes}. Requested WriteCapacityUnits: {more_writes}. Refer to the "
            "Amazon DynamoDB Developer Guide for current limits and how to request higher limits.",
        )


def asked_warmth(params: Params) -> tuple[int | None, int | None]:
    """The (reads, writes) of a request's WarmThroughput; None for what it leaves out."""
    given = params.get("WarmThroughput") or {}
    asked = given.get("ReadUnitsPerSecond"), given.get("WriteUnitsPerSecond")
    for value in asked:
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise _no_number(value)
    return asked


def check_new_warmth(
    asked: tuple[int | None, int | None], on_demand: bool, least: tuple[int, int]
) -> None:
    """A new table's warm throughput is not below what its mode gives anyway (words as observed)."""
    for kind, units, floor in zip(("Read", "Write"), asked, least, strict=True):
        if units is not None and units < floor:
            below = (
                f"initial throughput for OnDemand. See: {ON_DEMAND_PAGE}"
                if on_demand
                else f"{kind}CapacityUnits of ProvisionedThroughput"
            )
            raise _invalid(
                f"Requested {kind}UnitsPerSecond for WarmThroughput for table is lower than {below}"
            )


def check_more_warmth(asked: tuple[int | None, int | None], current: tuple[int, int]) -> None:
    """Warm throughput can be raised only (words as observed)."""
    for kind, units, floor in zip(("Read", "Write"), asked, current, strict=True):
        if units is not None and units < floor:
            raise _invalid(
                f"Requested {kind}UnitsPerSecond for WarmThroughput for table is lower than "
                "current WarmThroughput, decreasing WarmThroughput is not supported"
            )


def mode_warmth(physics: Physics) -> tuple[int, int]:
    """The warm throughput that an on-demand table begins with: (reads, writes) a second."""
    return physics.warm_reads, physics.warm_writes


def _invalid(words: str) -> ApiError:
    return ApiError("ValidationException", INVALID + words)


def _no_number(value: Any) -> ApiError:
    return ApiError(
        "SerializationException", f"{type(value).__name__} cannot be converted to a number"
    )
