"""The lab over HTTP beside MiniStack's own server, with the same clients.

* what a server takes for an UpdateItem, its table with a stream (a raw socket that is kept open);
* UpdateItem and PutRecords of 500 with boto3, where the client takes most of the time;
* 32 clients at once for a minute; from the start to the first answer; memory;
* the burst of 10,000 messages through three functions, in real time.

    python benchmarks/over_http.py
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from burst import memory_of, ministack_server

ROOT = Path(__file__).resolve().parent.parent
SHARDS = 100
"""So many take 100,000 records a second, more than any client here sends."""
Server = tuple[str, int]
"""Its address and its process."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=60, help="how long 32 clients ask")
    options = arguments.parse_args()
    os.environ["LAB_PROGRESS"] = "0"
    start()
    beside_each_other(options.rounds)
    at_once(options.seconds)
    burst()


@contextmanager
def lab_server() -> Iterator[Server]:
    """The lab's server on a free port, for as long as the block lasts."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    server = subprocess.Popen(
        [sys.executable, "-m", "lab_utils", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().removeprefix("Ready on ").strip(), server.pid
    finally:
        server.terminate()
        server.wait(timeout=30)


# -- one client -----------------------------------------------------------------------------------


def client(server: Server, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=server[0],
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )


def make_table(server: Server, name: str, stream: bool = True) -> None:
    view = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    client(server, "dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        **({"StreamSpecification": view} if stream else {}),
    )


def update(table: str, number: int) -> dict[str, Any]:
    return {
        "TableName": table,
        "Key": {"id": {"S": f"item {number % 100}"}},
        "UpdateExpression": "SET v = :v",
        "ConditionExpression": "attribute_not_exists(v) OR v <> :v",
        "ExpressionAttributeValues": {":v": {"N": str(number)}},
    }


@dataclass
class Connection:
    """A raw socket that is kept open, and requests as boto3 would write them."""

    server: Server
    _socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        host, _, port = self.server[0].removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        self._socket.sendall(request)
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._socket.recv(65536)
        head, _, body = got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self._socket.recv(65536)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"refused: {head!r} {body!r}")
        return body


def written(operation: str, members: dict[str, Any]) -> bytes:
    body = json.dumps(members).encode()
    scope = "x/20260101/us-east-1/dynamodb/aws4_request"
    head = (
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n"
        f"X-Amz-Target: DynamoDB_20120810.{operation}\r\n"
        "Content-Type: application/x-amz-json-1.0\r\n"
        f"Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


# -- side by side ---------------------------------------------------------------------------------


def beside_each_other(rounds: int) -> None:
    with lab_server() as lab, ministack_server() as rival:
        servers = {"lab": lab, "ministack": rival}
        for server in servers.values():
            make_table(server, "Table")
            client(server, "kinesis").create_stream(StreamName="Stream", ShardCount=SHARDS)
        time.sleep(3)  # MiniStack's stream becomes active
        measures = {"raw": raw_updates, "boto3": boto3_updates, "records": put_records}
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for number in range(rounds + 1):
            for what, measure in measures.items():
                for name, server in servers.items():
                    began, busy = time.perf_counter(), processor_time(server[1])
                    count = measure(server, number)
                    took = time.perf_counter() - began
                    each = (took / count, (processor_time(server[1]) - busy) / count)
                    found.setdefault((what, name), []).append(each)

        def median(what: str, name: str, of: int = 0) -> float:
            return statistics.median(each[of] for each in found[what, name][1:])  # one to warm up

        for what, of, title in (
            ("raw", 0, "UpdateItem, raw socket"),
            ("raw", 1, "the same, the server's processor time"),
            ("boto3", 0, "UpdateItem, boto3"),
            ("records", 0, "PutRecords, boto3, a record"),
        ):
            ours, theirs = median(what, "lab", of), median(what, "ministack", of)
            print(
                f"{title:40} {ours * 1000:6.3f} ms  ministack {theirs * 1000:6.3f} ms", flush=True
            )
        share = median("raw", "lab") / median("raw", "ministack")
        print(f"a raw UpdateItem takes {share:.2f} of ministack's     (wanted: at most 0.5)")
        rate = median("boto3", "ministack") / median("boto3", "lab")
        print(f"boto3's UpdateItem is {rate:.2f} times as fast        (wanted: at least 1.3)")
        rate = median("records", "ministack") / median("records", "lab")
        print(f"PutRecords of 500 is {rate:.2f} times as fast         (wanted: at least 2)")


def raw_updates(server: Server, number: int, count: int = 500) -> int:
    connection = Connection(server)
    first = number * count + 1
    requests = [written("UpdateItem", update("Table", first + each)) for each in range(count)]
    for request in requests:
        connection.ask(request)
    return count


def boto3_updates(server: Server, number: int, count: int = 200) -> int:
    dynamodb = client(server, "dynamodb")
    for each in range(count):
        dynamodb.update_item(**update("Table", 10**6 * (number + 1) + each))
    return count


def put_records(server: Server, number: int, count: int = 20) -> int:
    kinesis = client(server, "kinesis")
    records = [{"Data": b"x" * 200, "PartitionKey": f"{number} {each}"} for each in range(500)]
    for _ in range(count):
        if kinesis.put_records(StreamName="Stream", Records=records)["FailedRecordCount"]:
            raise SystemExit("records were refused: give the stream more shards")
    return count * len(records)


def processor_time(process: int) -> float:
    """Seconds; 0 where the system does not tell."""
    stat = Path(f"/proc/{process}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- alone ----------------------------------------------------------------------------------------


def start() -> None:
    began = time.perf_counter()
    with lab_server() as server:
        Connection(server).ask(written("ListTables", {}))
        took = time.perf_counter() - began
        print(f"the first answer comes after {took:.2f} s          (wanted: under 1)")
        memory = memory_of(server[1])
        print(f"the server has {memory:.0f} MB then               (wanted: under 120)", flush=True)


def at_once(seconds: float, clients: int = 32) -> None:
    """Reads and writes of the same items, by clients that wait for nothing but their answers."""
    with lab_server() as server:
        make_table(server, "Quiet", stream=False)
        stop, done = time.monotonic() + seconds, [0] * clients

        def ask(own: int) -> None:
            connection = Connection(server)
            while time.monotonic() < stop:
                number = own + clients * done[own]
                key = {"TableName": "Quiet", "Key": {"id": {"S": f"item {number % 100}"}}}
                change = {"ExpressionAttributeValues": {":one": {"N": "1"}}}
                change["UpdateExpression"] = "ADD n :one"  # type: ignore[assignment]
                connection.ask(written("UpdateItem", key | change))
                connection.ask(written("GetItem", key))
                done[own] += 1

        asking = [threading.Thread(target=ask, args=[own]) for own in range(clients)]
        for each in asking:
            each.start()
        time.sleep(seconds / 6)
        early = memory_of(server[1])
        for each in asking:
            each.join()
        late = memory_of(server[1])
    missing = sum(not count for count in done)
    print(
        f"{clients} clients: {2 * sum(done) / seconds:,.0f} requests/s for {seconds:.0f} s, "
        f"{missing} left out; {early:.0f} MB, at the end {late:.0f} MB   (wanted: none, and flat)",
        flush=True,
    )


def burst(messages: int = 10_000) -> None:
    with lab_server() as server:
        os.environ["AWS_ENDPOINT_URL"] = server[0]
        import lab_utils as lu

        with lu.open_lab("localstack") as lab:
            pipeline = lu.pipeline.deploy(lab)
            pipeline.connect(lab)
            played = lu.pipeline.play_round(lab, pipeline, seed=1, n=messages, settle=False)
        memory = memory_of(server[1])
    took = played.sending + played.waited
    print(played)
    print(f"the burst takes {took:.1f} s, {memory:.0f} MB             (wanted: under 20)")


if __name__ == "__main__":
    main()
