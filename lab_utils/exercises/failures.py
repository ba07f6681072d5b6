"""Questions about batches that fail: how often they are tried, what comes again, and what is lost.

Each is run on a stream of one shard, whose records are there before they are read, so that every
batch is full but the last.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from types import TracebackType
from typing import Any

from lab_utils.exercises import Found, Question
from lab_utils.lab import Lab, open_lab

HANDLER = """
import base64, json, os

def handler(event, context):
    if "ANSWER" in os.environ:
        return json.loads(os.environ["ANSWER"])
    failed = []
    for record in event["Records"]:
        name = base64.b64decode(record["kinesis"]["data"]).decode()
        if name != os.environ["BAD"]:
            print("done", name)
        elif os.environ["REPORTS"] == "yes":
            failed.append({"itemIdentifier": record["kinesis"]["sequenceNumber"]})
        else:
            raise ValueError(name)
    return {"batchItemFailures": failed}
"""
"""Works off its records in order. It raises at the bad one, or reports it and goes on."""

REPORTS = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
ROLE = {"Effect": "Allow", "Action": ["kinesis:*", "sqs:*"], "Resource": "*"}
HALF = 0.5
QUEUE = "arn:aws:sqs:us-east-1:123456789012:given-up"

GOOD_ANSWERS = (
    '""',
    '{"statusCode": 500}',
    '{"batchItemFailures": []}',
    '{"batchItemFailures": null}',
    "null",
)
BAD_ANSWERS = (
    '{"batchItemFailures": [{"itemIdentifier": ""}]}',
    '{"batchItemFailures": [{"itemIdentifier": null}]}',
    '{"batchItemFailures": [{"eventID": "shardId-000000000000:1"}]}',
    '{"batchItemFailures": [{"itemIdentifier": "record 2"}]}',
)


def ask(rng: random.Random) -> Question:
    """One of six situations, with its numbers drawn."""
    return rng.choice([_tries, _lost, _again, _answered, _told, _throttled])(rng)


def _tries(rng: random.Random) -> Question:
    size, retries = rng.choice([8, 16, 32, 64]), rng.randint(0, 5)
    bad, bisect = rng.randint(1, size), rng.random() < 0.7

    def run() -> Found:
        with _Shard(size, bad) as shard:
            shard.connect(
                BatchSize=size, MaximumRetryAttempts=retries, BisectBatchOnFunctionError=bisect
            )
            tries = len(shard.tries())
        levels = size.bit_length() - 1
        return Found(
            tries,
            f"The whole batch, two halves on each of {levels} levels, and {retries} retries of the "
            "record that is left alone: cuts use up none."
            if bisect
            else f"The first try and {retries} retries, all of them of the whole batch.",
        )

    how = "true" if bisect else "false"
    return Question(
        f"{_one_bad(size, bad)} BatchSize is {size}, MaximumRetryAttempts {retries} and "
        f"BisectBatchOnFunctionError {how}. How many invocations are there?",
        run,
    )


def _lost(rng: random.Random) -> Question:
    size, batches, retries = rng.randint(5, 20), rng.randint(2, 5), rng.randint(0, 4)
    bad = rng.randint(1, size * batches)

    def run() -> Found:
        with _Shard(size * batches, bad) as shard:
            shard.connect(BatchSize=size, MaximumRetryAttempts=retries)
            missing = size * batches - 1 - len(shard.done())
        return Found(
            missing,
            f"The bad one is number {(bad - 1) % size + 1} of its batch of {size}. Those before it "
            "are worked off in each try, those behind it in none, and all of them are given up.",
        )

    return Question(
        f"{_one_bad(size * batches, bad)} BatchSize is {size} and MaximumRetryAttempts {retries}. "
        "How many good records are never worked off?",
        run,
    )


def _again(rng: random.Random) -> Question:
    size, retries = rng.randint(4, 12), rng.randint(0, 5)
    bad = rng.randint(2, size - 1)
    other = rng.choice([rng.randint(1, bad - 1), bad, rng.randint(bad + 1, size)])

    def run() -> Found:
        with _Shard(size, bad, reports=True) as shard:
            shard.connect(BatchSize=size, MaximumRetryAttempts=retries, **REPORTS)
            tries = shard.tries()
            handed = int(
                ((tries["first"] < other) & (other <= tries["first"] + tries["size"])).sum()
            )
        return Found(
            handed,
            "A report is a checkpoint: what stands before the lowest number reported is done. From "
            "it on all comes again, good or bad, and the count of tries begins anew: 1 + "
            f"{retries} times.",
        )

    return Question(
        f"{_one_bad(size, bad, reports=True)} BatchSize is {size}, MaximumRetryAttempts {retries}, "
        f"and ReportBatchItemFailures is set. How often is record {other} handed over?",
        run,
    )


def _told(rng: random.Random) -> Question:
    size, batches, retries = rng.randint(4, 16), rng.randint(1, 3), rng.randint(0, 5)
    bad, reports, bisect = (
        rng.randint(1, size * batches),
        rng.random() < 0.5,
        rng.random() < 0.5,
    )

    def run() -> Found:
        with _Shard(size * batches, bad, reports) as shard:
            shard.connect(
                BatchSize=size,
                MaximumRetryAttempts=retries,
                BisectBatchOnFunctionError=bisect,
                DestinationConfig={"OnFailure": {"Destination": QUEUE}},
                **(REPORTS if reports else {}),
            )
            (told,) = shard.messages()
        found = (
            told["KinesisBatchInfo"]["batchSize"],
            told["requestContext"]["approximateInvokeCount"],
        )
        return Found(
            found,
            f"What is given up was tried 1 + {retries} times since the last progress. It is "
            + (
                "the bad record alone: cuts leave nothing else."
                if bisect
                else "what is left of the batch from the lowest number reported on."
                if reports
                else "the whole batch."
            ),
        )

    return Question(
        f"{_one_bad(size * batches, bad, reports)} BatchSize is {size}, MaximumRetryAttempts "
        f"{retries}, BisectBatchOnFunctionError {'true' if bisect else 'false'}, and "
        f"ReportBatchItemFailures is {'' if reports else 'not '}set. What does the message in the "
        "OnFailure queue say: batchSize and approximateInvokeCount? (A pair.)",
        run,
    )


def _answered(rng: random.Random) -> Question:
    retries, size = rng.randint(1, 5), rng.randint(3, 9)
    answer = rng.choice([*GOOD_ANSWERS, *BAD_ANSWERS])

    def run() -> Found:
        with _Shard(size, answer=answer) as shard:
            shard.connect(BatchSize=size, MaximumRetryAttempts=retries, **REPORTS)
            tries = len(shard.tries())
        return Found(
            tries,
            "The answer names no failure, so that all succeeded."
            if tries == 1
            else "The answer names a failure that is no record's sequence number, so the whole "
            f"batch failed: 1 + {retries} tries.",
        )

    return Question(
        f"A function gets {size} records in one batch and returns {answer}, each time. "
        f"ReportBatchItemFailures is set and MaximumRetryAttempts is {retries}. "
        "How many invocations are there?",
        run,
    )


def _throttled(rng: random.Random) -> Question:
    age, minutes, retries = rng.randint(2, 9), rng.randint(5, 20), rng.randint(0, 3)

    def run() -> Found:
        with _Shard(0) as shard:
            functions = shard.lab.client("lambda")
            functions.put_function_concurrency(
                FunctionName="Worker", ReservedConcurrentExecutions=0
            )
            shard.connect(MaximumRecordAgeInSeconds=60 * age, MaximumRetryAttempts=retries)
            shard.lab.clock.advance(minutes=HALF)
            for number in range(1, minutes + 1):
                shard.send(number)
                shard.lab.clock.advance(minutes=1 if number < minutes else HALF)
            functions.delete_function_concurrency(FunctionName="Worker")
            shard.lab.clock.advance(minutes=2)
            lost = minutes - len(shard.done())
        return Found(
            lost,
            "Throttling uses up no tries, so the limit on retries costs nothing. The limit on age "
            f"does: only what was at most {age} minutes old was still wanted.",
        )

    return Question(
        f"A function may not run (its reserved concurrency is 0) for {minutes} minutes. In each of "
        "them one record is written, at its half. Then the function may run again. "
        f"MaximumRecordAgeInSeconds is {60 * age}, MaximumRetryAttempts {retries}, no record is "
        "bad. How many are lost?",
        run,
    )


# -- what they share -----------------------------------------------------------------------------


def _one_bad(records: int, bad: int, reports: bool = False) -> str:
    does = "reports it and goes on" if reports else "raises an error there"
    return (
        f"{records} records wait in one shard. Number {bad} of them is bad. A function works off "
        f"its records in order; at the bad one it {does}."
    )


class _Shard:
    """A stream of one shard with some records in it, and a function to read them."""

    def __init__(
        self, records: int, bad: int = 0, reports: bool = False, answer: str | None = None
    ) -> None:
        self.lab: Lab = open_lab("embedded")
        self._kinesis = self.lab.client("kinesis")
        self._kinesis.create_stream(StreamName="Exercise", ShardCount=1)
        if records:
            self.send(*range(1, records + 1))
        says = {} if answer is None else {"ANSWER": answer}
        self.lab.client("sqs").create_queue(QueueName="given-up")
        self.lab.deploy_function(
            "Worker",
            HANDLER,
            role=self.lab.role("WorkerRole", ROLE),
            environment={"BAD": str(bad), "REPORTS": "yes" if reports else "no", **says},
        )

    def __enter__(self) -> _Shard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lab.close()

    def send(self, *numbers: int) -> None:
        self._kinesis.put_records(
            StreamName="Exercise",
            Records=[{"PartitionKey": "x", "Data": str(number).encode()} for number in numbers],
        )

    def connect(self, **settings: Any) -> None:
        """Map the stream to the function, and let some minutes pass: enough for every try."""
        stream = self._kinesis.describe_stream_summary(StreamName="Exercise")
        self.lab.client("lambda").create_event_source_mapping(
            FunctionName="Worker",
            EventSourceArn=stream["StreamDescriptionSummary"]["StreamARN"],
            StartingPosition="TRIM_HORIZON",
            **settings,
        )
        self.lab.clock.advance(minutes=5)

    def tries(self) -> Any:
        return self.lab.tries("Worker")

    def done(self) -> Counter[str]:
        """How often each record was worked off."""
        lines = self.lab.client("logs").filter_log_events(logGroupName="/aws/lambda/Worker")
        words = [event["message"].split() for event in lines["events"]]
        return Counter(line[1] for line in words if line[0] == "done")

    def messages(self) -> list[Any]:
        sqs = self.lab.client("sqs")
        url = sqs.get_queue_url(QueueName="given-up")["QueueUrl"]
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(each["Body"]) for each in found]
