"""Where a request becomes an answer: which service, who asks, how long it takes, what comes back.

A request takes its latency in virtual time, and is carried out at the end of it by the loop, not by
the code that asked: meanwhile others run, and that is how calls overlap.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import EndpointConnectionError
from botocore.model import OperationModel

from lab_utils.emulator import dynamodb, wire
from lab_utils.emulator.errors import ApiError
from lab_utils.emulator.physics import MICROSECONDS, Range, between, microseconds
from lab_utils.emulator.scheduler import Guest, Resume, current_guest
from lab_utils.emulator.wire import HttpAnswer
from lab_utils.errors import LabError

if TYPE_CHECKING:
    from lab_utils.emulator.invocations import Instance
    from lab_utils.emulator.world import Region, World

Act = Callable[[dict[str, Any]], Any]

SERVICES = {
    "dynamodb": "dynamodb",
    "dynamodb-streams": "dynamodbstreams",
    "kinesis": "kinesis",
    "lambda": "lambda",
    "iam": "iam",
    "sts": "sts",
    "sqs": "sqs",
    "sns": "sns",
    "s3": "s3",
    "cloudwatch": "cloudwatch",
    "cloudwatch-logs": "logs",
}
"""botocore's name of a service in its events, and the name its client is made by."""

JSON_TARGETS = {"dynamodb": "DynamoDB_20120810"}
"""Services whose headers say nothing but the operation: writing them anew is quicker than reading
what boto3 sent."""
LONGEST_POLL = 20
"""Seconds that a queue lets anybody wait for a message."""
STREAMED = frozenset({"s3", "lambda"})
"""Services whose bodies boto3 reads by their length."""
PROTOCOLS = {
    "iam": "query",
    "sts": "query",
    "sns": "query",
    "s3": "rest-xml",
    "lambda": "rest-json",
}
"""How a service words its errors, where that is not JSON."""
FORM = "application/x-www-form-urlencoded"
STUMBLES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What MiniStack raises over a request that is malformed."""

MODELLED: dict[str, dict[str, tuple[str, str]]] = {
    "dynamodb": {
        "UpdateTimeToLive": ("time_to_live", "update"),
        "DescribeTimeToLive": ("time_to_live", "describe"),
        "EnableKinesisStreamingDestination": ("streaming", "enable"),
        "DisableKinesisStreamingDestination": ("streaming", "disable"),
        "UpdateKinesisStreamingDestination": ("streaming", "update"),
        "DescribeKinesisStreamingDestination": ("streaming", "describe"),
    },
    "dynamodbstreams": {
        "ListStreams": ("streams", "list_streams"),
        "DescribeStream": ("streams", "describe_stream"),
        "GetShardIterator": ("streams", "get_shard_iterator"),
        "GetRecords": ("streams", "get_records"),
    },
    "kinesis": {
        "CreateStream": ("kinesis", "create_stream"),
        "DeleteStream": ("kinesis", "delete_stream"),
        "ListStreams": ("kinesis", "list_streams"),
        "DescribeStream": ("kinesis", "describe_stream"),
        "DescribeStreamSummary": ("kinesis", "describe_stream_summary"),
        "ListShards": ("kinesis", "list_shards"),
        "SplitShard": ("kinesis.resharding", "split_shard"),
        "MergeShards": ("kinesis.resharding", "merge_shards"),
        "UpdateShardCount": ("kinesis.resharding", "update_shard_count"),
        "UpdateStreamMode": ("kinesis.resharding", "update_mode"),
        "UpdateMaxRecordSize": ("kinesis", "update_max_record_size"),
        "IncreaseStreamRetentionPeriod": ("kinesis", "increase_retention"),
        "DecreaseStreamRetentionPeriod": ("kinesis", "decrease_retention"),
        "AddTagsToStream": ("tags", "add_to_stream"),
        "RemoveTagsFromStream": ("tags", "remove_from_stream"),
        "ListTagsForStream": ("tags", "list_for_stream"),
        "PutRecord": ("kinesis", "put_record"),
        "PutRecords": ("kinesis", "put_records"),
        "GetShardIterator": ("kinesis", "get_shard_iterator"),
        "GetRecords": ("kinesis", "get_records"),
    },
    "lambda": {
        "CreateFunction": ("functions", "create"),
        "GetFunction": ("functions", "get"),
        "GetFunctionConfiguration": ("functions", "get_configuration"),
        "ListFunctions": ("functions", "list"),
        "UpdateFunctionCode": ("functions", "update_code"),
        "UpdateFunctionConfiguration": ("functions", "update_configuration"),
        "DeleteFunction": ("functions", "delete"),
        "Invoke": ("functions", "invoke_api"),
        "GetAccountSettings": ("functions", "account_settings"),
        "PutFunctionConcurrency": ("functions", "put_concurrency"),
        "GetFunctionConcurrency": ("functions", "get_concurrency"),
        "DeleteFunctionConcurrency": ("functions", "delete_concurrency"),
        "PublishVersion": ("functions.versions", "publish"),
        "ListVersionsByFunction": ("functions.versions", "list"),
        "CreateAlias": ("functions.versions", "create_alias"),
        "UpdateAlias": ("functions.versions", "update_alias"),
        "GetAlias": ("functions.versions", "get_alias"),
        "ListAliases": ("functions.versions", "list_aliases"),
        "DeleteAlias": ("functions.versions", "delete_alias"),
        "PutFunctionEventInvokeConfig": ("functions.asynchronous", "put"),
        "UpdateFunctionEventInvokeConfig": ("functions.asynchronous", "update"),
        "GetFunctionEventInvokeConfig": ("functions.asynchronous", "get"),
        "ListFunctionEventInvokeConfigs": ("functions.asynchronous", "list"),
        "DeleteFunctionEventInvokeConfig": ("functions.asynchronous", "delete"),
        "CreateEventSourceMapping": ("mappings", "create"),
        "GetEventSourceMapping": ("mappings", "get"),
        "ListEventSourceMappings": ("mappings", "list"),
        "UpdateEventSourceMapping": ("mappings", "update"),
        "DeleteEventSourceMapping": ("mappings", "delete"),
        "TagResource": ("tags", "tag"),
        "UntagResource": ("tags", "untag"),
        "ListTags": ("tags", "list"),
    },
}
"""What is modelled here: the room of a Region and the method that answers an operation."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


BACKED = {
    "dynamodb": dynamodb.READS
    | dynamodb.WRITES
    | _names(
        "CreateTable UpdateTable DeleteTable DescribeTable ListTables DescribeLimits "
        "TagResource UntagResource ListTagsOfResource"
    ),
    "iam": _names(
        "CreateRole GetRole ListRoles DeleteRole UpdateAssumeRolePolicy PutRolePolicy "
        "GetRolePolicy ListRolePolicies DeleteRolePolicy CreatePolicy GetPolicy ListPolicies "
        "DeletePolicy CreatePolicyVersion GetPolicyVersion ListPolicyVersions DeletePolicyVersion "
        "SetDefaultPolicyVersion AttachRolePolicy DetachRolePolicy ListAttachedRolePolicies "
        "TagRole UntagRole ListRoleTags TagPolicy UntagPolicy ListPolicyTags "
        "SimulatePrincipalPolicy CreateUser GetUser DeleteUser CreateAccessKey ListAccessKeys "
        "DeleteAccessKey CreateAccountAlias ListAccountAliases DeleteAccountAlias"
    ),
    "sts": _names("GetCallerIdentity"),
    "sqs": _names(
        "CreateQueue DeleteQueue GetQueueUrl GetQueueAttributes SetQueueAttributes ListQueues "
        "PurgeQueue SendMessage SendMessageBatch ReceiveMessage DeleteMessage DeleteMessageBatch "
        "ChangeMessageVisibility TagQueue UntagQueue ListQueueTags"
    ),
    "sns": _names(
        "CreateTopic DeleteTopic ListTopics GetTopicAttributes SetTopicAttributes Subscribe "
        "Unsubscribe ListSubscriptions ListSubscriptionsByTopic Publish PublishBatch "
        "TagResource UntagResource ListTagsForResource"
    ),
    "s3": _names(
        "CreateBucket DeleteBucket HeadBucket ListBuckets GetBucketLocation PutObject GetObject "
        "HeadObject DeleteObject DeleteObjects ListObjects ListObjectsV2 ListObjectVersions "
        "CopyObject GetBucketTagging PutBucketTagging DeleteBucketTagging"
    ),
    "cloudwatch": _names("PutMetricData GetMetricData GetMetricStatistics ListMetrics"),
    "logs": _names(
        "CreateLogGroup DeleteLogGroup DescribeLogGroups CreateLogStream DeleteLogStream "
        "DescribeLogStreams PutLogEvents GetLogEvents FilterLogEvents PutRetentionPolicy "
        "TagResource UntagResource ListTagsForResource"
    ),
}
"""What is handed to MiniStack, operation by operation; anything else is refused."""

AWS_HOSTS = (".amazonaws.com", ".api.aws")
WITHOUT_REGION = ("iam", "sts", "s3")
"""Services with one endpoint for all Regions; elsewhere a host that names none does not exist."""
_ONE_AT_A_TIME = threading.Lock()
"""Threads that a cell or a handler started call at any moment, and labs share MiniStack."""
_REGION_IN_HOST = re.compile(r"\.([a-z]{2}(?:-[a-z]+)+-\d)\.")

NO_TEXT = ApiError("SerializationException", "The request holds characters that are none.")
"""Halves of surrogate pairs, which JSON can name and no encoding can carry."""


@lru_cache(maxsize=1)
def http_date(second: int) -> str:
    """The Date of an answer: callers without a clock of the lab's know what time it is there."""
    return formatdate(second, usegmt=True)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to one operation of one service; header names in lower case."""

    service: str
    operation: str
    region: str
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: dict[str, str]
    body: bytes


class Gateway:
    """The one door of a world."""

    def __init__(self, world: World) -> None:
        self._world, self._scheduler = world, world.scheduler
        self._physics = world.physics
        self._models: dict[tuple[str, str], OperationModel] = {}
        self._ids, self._delays = world.rng("requests"), world.rng("latency")

    # -- from boto3 -----------------------------------------------------------------------------

    def answer(self, prepared: AWSPreparedRequest, event_name: str) -> AWSResponse:
        """botocore's `before-send`: what is returned here is never sent anywhere."""
        return self._answer(prepared, event_name, current_guest())

    def answer_function(self, prepared: AWSPreparedRequest, event_name: str) -> AWSResponse:
        """The same for a function's clients: a thread that its code started has its role too."""
        guest = current_guest()
        if guest is None and self._scheduler.in_foreign_thread:
            guest = self._scheduler.inside
            if guest is None:
                raise LabError(
                    "A thread of a function called AWS while its handler did not run: "
                    "let the handler wait for its threads."
                )
        return self._answer(prepared, event_name, guest)

    def _answer(
        self, prepared: AWSPreparedRequest, event_name: str, guest: Guest | None
    ) -> AWSResponse:
        if guest is None:
            self._scheduler.check_open()
        _, service, operation = event_name.split(".")
        request = self._request(prepared, SERVICES.get(service, service), operation)
        if self._scheduler.in_foreign_thread:
            reply = self._at_once(request, guest)
        else:
            reply = self._scheduler.wait(lambda resume: self._begin(request, guest, resume))
        return AWSResponse(prepared.url, reply.status, reply.headers, _Raw(reply.body))

    def _request(self, prepared: AWSPreparedRequest, service: str, operation: str) -> Request:
        host, path, query = _split(prepared.url)
        body = prepared.body or b""
        if not isinstance(body, bytes):
            body = body.encode() if isinstance(body, str) else body.read()
        headers = (
            _lower(prepared.headers)
            if service not in JSON_TARGETS
            else {
                "x-amz-target": f"{JSON_TARGETS[service]}.{operation}",
                "content-type": "application/x-amz-json-1.0",
            }
        )
        headers["host"] = host
        found = _REGION_IN_HOST.search(host)
        if not found and host.endswith(AWS_HOSTS) and service not in WITHOUT_REGION:
            raise EndpointConnectionError(endpoint_url=f"https://{host}{path}")
        if "aws-chunked" in headers.get("content-encoding", ""):
            headers, body = wire.unchunked(headers, body)
        return Request(
            service,
            operation,
            found.group(1) if found else self._world.home,
            prepared.method,
            path,
            query,
            headers,
            body,
        )

    # -- from outside of the process --------------------------------------------------------------

    def arrive(self, request: Request, resume: Resume, delay: int) -> None:
        """A request of the reader's that came over HTTP: carried out at a moment in virtual time,
        in microseconds from now. Its way here took real time; no other latency is added."""

        def carry_out() -> None:
            try:
                self._finish(request, None, self._momentary_transaction(request), resume)
            except Exception as mistake:  # ours: whoever asked must not wait for ever
                resume(self.refuse(request, ApiError("InternalFailure", repr(mistake), 500)))
                raise

        self._scheduler.after(delay, carry_out)

    def _momentary_transaction(self, request: Request) -> dynamodb.Transaction | None:
        """A transaction that is in flight for no time still meets those that functions have."""
        if request.operation != "TransactWriteItems":
            return None
        tables = self._world.region(request.region).dynamodb
        transaction = self._hold(tables, request)
        if transaction is not None:
            tables.end_transaction(transaction)
        return transaction

    def refuse(self, request: Request, error: ApiError) -> HttpAnswer:
        """The answer to a request that is not carried out."""
        return self._stamped(request, wire.error_answer(_protocol(request), error))

    # -- in virtual time ------------------------------------------------------------------------

    def _begin(self, request: Request, guest: Guest | None, resume: Resume) -> None:
        """A request arrives: a transaction takes hold of its items from here on."""
        transaction = None
        tables = self._world.region(request.region).dynamodb
        if request.operation == "TransactWriteItems":
            transaction = self._hold(tables, request)
        delay = between(self._delays, self._latency(request))

        def finish() -> None:
            if transaction is not None:
                tables.end_transaction(transaction)
            self._finish(request, guest, transaction, resume)

        self._scheduler.after(delay, finish)

    def _hold(self, tables: dynamodb.DynamoDB, request: Request) -> dynamodb.Transaction | None:
        try:
            return tables.begin_transaction(request.body)
        except (ApiError, *STUMBLES):
            return None  # it will be refused when it is carried out

    def _latency(self, request: Request) -> Range:
        if request.service == "dynamodb":
            if request.operation in ("TransactWriteItems", "ExecuteTransaction"):
                return self._physics.transaction_latency
            if request.operation in dynamodb.WRITES:
                return self._physics.write_latency
            if request.operation in dynamodb.READS:
                return self._physics.read_latency
        if request.service in ("kinesis", "dynamodbstreams", "sqs", "sns", "s3"):
            return self._physics.stream_latency
        return self._physics.control_latency

    def _finish(
        self,
        request: Request,
        guest: Guest | None,
        transaction: dynamodb.Transaction | None,
        resume: Resume,
    ) -> None:
        answer = self._carry_out(request, guest, transaction)
        if isinstance(answer, HttpAnswer):
            resume(self._stamped(request, answer))
            return
        event, render = answer
        event.callbacks.append(lambda done: resume(self._stamped(request, render(done.value))))

    def _at_once(self, request: Request, guest: Guest | None) -> HttpAnswer:
        """For a thread that a handler or a cell started: no virtual time passes there."""
        answer = self._carry_out(request, guest, None)
        if not isinstance(answer, HttpAnswer):
            answer = wire.error_answer(
                _protocol(request),
                ApiError(
                    "ServiceException",
                    "A function cannot be invoked from a thread in the lab: "
                    "invoke it from the cell or the handler itself.",
                    500,
                ),
            )
        return self._stamped(request, answer)

    def _stamped(self, request: Request, answer: HttpAnswer) -> HttpAnswer:
        """Every answer has a request id; a checksum made before we edited it is dropped."""
        bits = f"{self._ids.getrandbits(128):032X}"
        headers = {name.lower(): value for name, value in answer.headers.items()}
        headers.pop("x-amz-crc32", None)
        headers["date"] = http_date(self._scheduler.now // MICROSECONDS)
        if request.service == "s3":
            headers["x-amz-request-id"] = bits[:16]
            headers["x-amz-id-2"] = base64.b64encode((bits + bits[:16]).encode()).decode()
        else:
            headers["x-amzn-requestid"] = f"{bits}{bits[:20]}"
        if request.service in STREAMED and request.method != "HEAD":
            headers["content-length"] = str(len(answer.body))
        return HttpAnswer(answer.status, headers, answer.body)

    # -- carrying out ---------------------------------------------------------------------------

    def _carry_out(
        self, request: Request, guest: Guest | None, transaction: dynamodb.Transaction | None
    ) -> Any:
        with self.turn():
            try:
                if guest is not None:
                    owner: Instance = guest.owner
                    self._world.permissions.check(request, owner.role, owner.session_name)
                return self._dispatch(request, transaction)
            except ApiError as error:
                return wire.error_answer(_protocol(request), error)
            except UnicodeError:
                return wire.error_answer(_protocol(request), NO_TEXT)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Meanwhile nobody else is at the services, and Ctrl-C waits."""
        with _ONE_AT_A_TIME:
            self._scheduler.critical += 1
            try:
                yield
            finally:
                self._scheduler.critical -= 1

    def _dispatch(self, request: Request, transaction: dynamodb.Transaction | None) -> Any:
        region = self._world.region(request.region)
        modelled = MODELLED.get(request.service, {}).get(request.operation)
        if modelled is not None:
            room, method = modelled
            act: Act = attrgetter(f"{room}.{method}")(region)
            return (self._lambda if request.service == "lambda" else self._json)(act, request)
        if request.operation not in BACKED.get(request.service, ()):
            raise ApiError(
                "NotImplemented",
                f"The lab does not offer {request.operation} of {request.service}.",
                501,
            )
        return self._backed(region, request, transaction)

    def _model(self, request: Request) -> OperationModel:
        key = request.service, request.operation
        if key not in self._models:
            service = self._world.session.get_service_model(request.service)
            self._models[key] = service.operation_model(request.operation)
        return self._models[key]

    def _json(self, act: Act, request: Request) -> HttpAnswer:
        given = wire.parse_json(request.body)
        params = {name: value for name, value in given.items() if value is not None}
        shape = self._model(request).input_shape
        wire.validate(shape, params)
        version = "1.0" if request.service.startswith("dynamodb") else "1.1"
        return wire.json_answer(act(params), version)

    def _lambda(self, act: Act, request: Request) -> Any:
        model = self._model(request)
        params = wire.parse_rest(model, request.path, request.query, request.headers, request.body)
        wire.validate(model.input_shape, params)
        result = act(params)
        if isinstance(result, tuple):
            event, render = result
            return event, lambda value: _rendered(model, render, value)
        return wire.rest_answer(model, result)

    def _backed(
        self, region: Region, request: Request, transaction: dynamodb.Transaction | None
    ) -> Any:
        """MiniStack's services; a request that one of them stumbles over is a malformed one."""
        try:
            if request.service == "dynamodb":
                return region.dynamodb.handle(
                    request.operation, request.headers, request.body, transaction
                )
            if request.service == "sqs" and request.operation == "ReceiveMessage":
                return self._receive(request)
            return self._forward(request)
        except STUMBLES as problem:
            raise ApiError(
                "SerializationException", f"The request does not fit {request.operation}: {problem}"
            ) from problem

    def _forward(self, request: Request) -> HttpAnswer:
        if request.service == "logs":
            self._world.logbook.deliver()
        if request.service == "cloudwatch":
            self._world.metrics.deliver()
        if request.service == "sns" and request.operation == "Subscribe":
            _refuse_subscribers_outside(request)
        answer = HttpAnswer(
            *self._world.backing.request(
                request.service,
                request.region,
                request.method,
                request.path,
                request.headers,
                request.body,
                request.query,
            )
        )
        if request.service == "iam" and not request.operation.startswith(("Get", "List")):
            self._world.permissions.forget()
        if request.operation in ("DeleteLogGroup", "DeleteLogStream"):
            deleted = json.loads(request.body)
            names = [deleted[each] for each in ("logGroupName", "logStreamName") if each in deleted]
            self._world.logbook.forget(request.region, *names)
        return answer

    def _receive(self, request: Request) -> Any:
        """A long poll waits in virtual time, asking four times a second."""
        asked = _members(request)
        wait = asked.get("WaitTimeSeconds")
        wait = int(self._usual_wait(request, asked) if wait is None else wait)
        if not 0 <= wait <= LONGEST_POLL:
            raise ApiError(
                "InvalidParameterValue",
                f"Value {wait} for parameter WaitTimeSeconds "
                f"is invalid. Reason: Must be >= 0 and <= {LONGEST_POLL}, if provided.",
            )
        patience = self._scheduler.now + microseconds(wait)
        short = _with_members(request, asked | {"WaitTimeSeconds": 0})
        first = self._forward(short)

        def ask() -> Generator[Any, Any, HttpAnswer]:
            answer = first
            while _nothing_yet(answer) and self._scheduler.now < patience:
                yield self._scheduler.env.timeout(microseconds(0.25))
                answer = self._forward(short)
            return answer

        return self._scheduler.env.process(ask()), lambda answer: answer

    def _usual_wait(self, request: Request, asked: dict[str, Any]) -> int:
        """How long a queue lets those wait who do not say."""
        name = "ReceiveMessageWaitTimeSeconds"
        answer = self._forward(
            replace(
                request,
                operation="GetQueueAttributes",
                query={},
                body=json.dumps(
                    {"QueueUrl": asked.get("QueueUrl"), "AttributeNames": [name]}
                ).encode(),
                headers=request.headers | {"x-amz-target": "AmazonSQS.GetQueueAttributes"},
            )
        )
        return int(json.loads(answer.body or b"{}").get("Attributes", {}).get(name, 0))


class _Raw(io.BytesIO):
    """A body as botocore reads it from urllib3."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.read()


@lru_cache(maxsize=1024)
def _split(url: str) -> tuple[str, str, dict[str, list[str]]]:
    parts = urlsplit(url)
    return parts.netloc, unquote(parts.path) or "/", parse_qs(parts.query, keep_blank_values=True)


def _lower(headers: Any) -> dict[str, str]:
    return {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in headers.items()
    }


def _protocol(request: Request) -> str:
    """The protocol of an answer's errors: queues and metrics can be asked by forms, too."""
    asked_by_form = request.headers.get("content-type", "").startswith(FORM)
    return PROTOCOLS.get(request.service, "query" if asked_by_form else "json")


def _rendered(
    model: OperationModel, render: Callable[[Any], dict[str, Any]], value: Any
) -> HttpAnswer:
    try:
        return wire.rest_answer(model, render(value))
    except ApiError as error:
        return wire.error_answer("rest-json", error)


def _members(request: Request) -> dict[str, Any]:
    """What a request to a queue says, in JSON or as a form."""
    if "x-amz-target" in request.headers:
        return wire.parse_json(request.body)
    form = {**request.query, **parse_qs(request.body.decode())}
    return {name: values[0] for name, values in form.items()}


def _with_members(request: Request, members: dict[str, Any]) -> Request:
    """A request to a queue that says this instead."""
    if "x-amz-target" in request.headers:
        return replace(request, body=json.dumps(members).encode())
    return replace(request, query={}, body=urlencode(members).encode())


def _nothing_yet(answer: HttpAnswer) -> bool:
    return answer.status == 200 and b"ReceiptHandle" not in answer.body


def _refuse_subscribers_outside(request: Request) -> None:
    protocol = _members(request).get("Protocol", "")
    if protocol != "sqs":
        raise ApiError(
            "NotImplemented",
            f"The lab does not deliver to {protocol}: it reaches "
            "nothing outside of itself. Subscribe a queue.",
            501,
        )
