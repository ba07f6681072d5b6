"""The pages of prose: what they say about the code is what the code does."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

import lab_utils as lu
from lab_utils.emulator import gateway
from lab_utils.emulator.physics import GB, HOUR, KB, MB, Physics, as_records
from lab_utils.lab import Lab
from lab_utils.pipeline import parts
from lab_utils.pipeline.scoreboard import PATIENCE

mpl.use("Agg")

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
PAGES = sorted(BOOK.glob("*.md"))
NOTEBOOKS = ROOT / "notebooks"

CELL = re.compile(r"(?<!\\)\|")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
REFERENCE = re.compile(r"\[([^\]]+)\]\[([^\]]+)\]")
DEFINITION = re.compile(r"^\[([^\]]+)\]: (\S+)$", re.MULTILINE)
ROLE = re.compile(r"\{(doc|term|ref|figure)\}`([^`]+)`")
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

UNITS = {"h": HOUR, "min": 60.0, "s": 1.0, "ms": 1e-3, "KB": KB, "MB": MB, "GB": GB}
QUANTITY = re.compile(r"([\d.,]*\d)\s*([A-Za-z]+)?")


def text(name: str) -> str:
    return (BOOK / f"{name}.md").read_text(encoding="utf-8")


def tables(page: str) -> Iterator[list[dict[str, str]]]:
    """The pipe tables of a page, each a list of rows under the names of its columns."""
    block: list[list[str]] = []
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            block.append([cell.strip() for cell in CELL.split(line)[1:-1]])
        elif block:
            head, _, *rows = block
            yield [dict(zip(head, row, strict=True)) for row in rows]
            block = []


def rows_under(page: str, column: str) -> list[dict[str, str]]:
    """The rows of all tables that have this column."""
    return [row for table in tables(page) for row in table if column in row]


def python_blocks(page: str) -> list[str]:
    return FENCE.findall(page)


def quantity(words: str) -> Any:
    """A constant as the page writes it ("4 to 4.5 h", "1 min, 2 min") as the code has it."""
    ranged = re.fullmatch(r"(\S+) to (\S+\s\S+)", words)
    parts = words.split(", ") if not ranged else list(ranged.groups())
    found = [QUANTITY.fullmatch(part) for part in parts]
    assert all(found), f"{words!r} is no quantity"
    numbers = [float(each[1].replace(",", "")) for each in found if each]
    units = [each[2] for each in found if each]
    values = tuple(
        number * UNITS.get(unit or units[-1], 1)
        for number, unit in zip(numbers, units, strict=True)
    )
    return values if len(values) > 1 else values[0]


def make_table(lab: Lab, name: str = "Changes", **settings: Any) -> str:
    """An on-demand table with a stream; the stream's ARN."""
    described = lab.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        **settings,
    )
    return str(described["TableDescription"]["LatestStreamArn"])


def listed(lab: Lab, arn: str) -> tuple[int, int]:
    """How many shards are listed, and how many of them are open."""
    lineage = lu.read_lineage(lab.client("dynamodbstreams"), arn)
    return len(lineage.open_shards) + len(lineage.closed_shards), len(lineage.open_shards)


# -- links -----------------------------------------------------------------------------------------


def slug(heading: str) -> str:
    """A heading's place in the page, as docutils makes it: no number begins it."""
    return re.sub(r"^[-\d]+|-+$", "", re.sub(r"[^a-z0-9]+", "-", heading.lower()))


def title(notebook: Path) -> str:
    """The first line of a chapter that runs."""
    first = json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"]
    return "".join(first).splitlines()[0].removeprefix("# ")


def anchors(path: Path) -> set[str]:
    """What a link can lead to inside a page: its headings, its labels and its figures."""
    source = path.read_text(encoding="utf-8")
    named: list[str] = []
    if path.suffix == ".ipynb":
        cells = json.loads(source)["cells"]
        named = [
            figure["name"]
            for cell in cells
            if (figure := cell["metadata"].get("mystnb", {}).get("figure"))
        ]
        source = "\n\n".join(
            "".join(each["source"]) for each in cells if each["cell_type"] == "markdown"
        )
    return {
        *map(slug, re.findall(r"^#+ (.+)$", source, re.MULTILINE)),
        *named,
        *re.findall(r"^\(([\w-]+)\)=$", source, re.MULTILINE),
        *re.findall(r"\]\{#([\w-]+)\}", source),
        *re.findall(r"^:name: (\S+)$", source, re.MULTILINE),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(page: Path) -> None:
    source = page.read_text(encoding="utf-8")
    targets = [target for _, target in LINK.findall(source)]
    defined = dict(DEFINITION.findall(source))
    used = {name for _, name in REFERENCE.findall(source)}
    assert used == set(defined), "a reference has no definition, or a definition no use"
    everywhere = set().union(*(anchors(each) for each in PAGES))
    for target in [*targets, *defined.values()]:
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path.replace(".html", ".ipynb")).resolve() if path else None
        assert file is None or file.is_file(), target
        assert not anchor or anchor in (everywhere if file is None else anchors(file)), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_roles_name_what_there_is(page: Path) -> None:
    terms = {
        line.strip().lower()
        for block in re.findall(r"```\{glossary\}\n(.*?)```", text("glossary"), re.DOTALL)
        for line in block.splitlines()
        if line and not line.startswith(" ")
    }
    for role, content in ROLE.findall(page.read_text(encoding="utf-8")):
        target = re.sub(r".*<(.+)>", r"\1", content)
        if role == "doc":
            assert (BOOK / f"{target}.md").is_file(), content
        if role == "term":
            assert target.lower() in terms, content


# -- the first page --------------------------------------------------------------------------------


def test_the_snippet_of_the_first_page(lab: Lab) -> None:
    (snippet,) = python_blocks(text("intro"))
    streams, stream_arn = lab.client("dynamodbstreams"), make_table(lab)
    names: dict[str, Any] = {"lu": lu, "lab": lab, "streams": streams, "stream_arn": stream_arn}
    *head, last = ast.parse(snippet).body
    exec(compile(ast.Module(head, []), "intro.md", "exec"), names)
    assert isinstance(last, ast.Expr)
    drawn = eval(compile(ast.Expression(last.value), "intro.md", "eval"), names)

    before, after = names["before"], names["after"]
    assert len(before.open_shards) == 4
    assert not any(True for shard in before.open_shards for _ in before.graph.predecessors(shard))
    assert len(after.open_shards) == 4
    assert not set(after.open_shards) & set(before.open_shards)
    parents = [list(after.graph.predecessors(shard)) for shard in after.open_shards]
    assert sorted(shard for shards in parents for shard in shards) == before.open_shards
    assert drawn.figure.get_axes()


def test_the_targets_of_the_first_page(monkeypatch: pytest.MonkeyPatch) -> None:
    now = {
        row["`LAB_TARGET`"].strip("`"): row["In this release"]
        for row in rows_under(text("intro"), "`LAB_TARGET`")
    }
    assert now.keys() == {"embedded", "localstack", "aws"}
    assert now["aws"] == "yes; after you confirmed the account"
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "nowhere")
    with pytest.raises(lu.LabError, match="AWS_REGION"):
        lu.open_lab("aws")


# -- the overview ----------------------------------------------------------------------------------


def test_how_many_shards_are_listed() -> None:
    """Four hours exactly: 24 shards for four hours, then 28 for good, four of them open."""
    with lu.open_lab("embedded", physics=Physics(rollover=(4 * HOUR, 4 * HOUR))) as lab:
        arn, seen = make_table(lab), []
        for _ in range(32):
            seen.append(listed(lab, arn))
            lab.clock.advance(hours=1)
    assert seen[:20] == [(4 * (hour // 4 + 1), 4) for hour in range(20)]
    assert seen[20:24] == [(24, 4)] * 4
    assert seen[24:] == [(28, 4)] * 8


def test_how_many_shards_are_listed_with_the_ages_that_were_observed() -> None:
    counts: Counter[int] = Counter()
    for seed in range(4):
        with lu.open_lab("embedded", seed=seed) as lab:
            arn = make_table(lab)
            lab.clock.advance(hours=25)
            for _ in range(20):
                total, open_now = listed(lab, arn)
                assert open_now == 4
                counts[total] += 1
                lab.clock.advance(hours=1)
    assert min(counts) >= 24
    assert max(counts) <= 28
    assert len(counts) > 2


def test_a_split_adds_two_shards_to_the_listing(lab: Lab) -> None:
    arn = make_table(lab)
    lab.split_partition("Changes", 0)
    assert listed(lab, arn) == (6, 5)


def test_five_writes_leave_four_records(lab: Lab) -> None:
    arn, dynamodb, streams = make_table(lab), *lab.clients("dynamodb", "dynamodbstreams")
    new = {"id": {"S": "a"}, "x": {"N": "1"}}
    dynamodb.put_item(TableName="Changes", Item=new)
    dynamodb.put_item(TableName="Changes", Item=new)
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        dynamodb.update_item(
            TableName="Changes",
            Key={"id": {"S": "a"}},
            UpdateExpression="SET x = :two",
            ConditionExpression="x = :two",
            ExpressionAttributeValues={":two": {"N": "2"}},
        )
    dynamodb.delete_item(TableName="Changes", Key={"id": {"S": "nobody"}})
    dynamodb.transact_write_items(
        TransactItems=[
            {"Put": {"TableName": "Changes", "Item": {"id": {"S": name}}}} for name in "bcd"
        ]
    )
    records = []
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        records += streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    assert sorted(each["dynamodb"]["Keys"]["id"]["S"] for each in records) == list("abcd")


@pytest.mark.parametrize(("start", "delivered"), [("LATEST", 0), ("TRIM_HORIZON", 2)])
def test_what_latest_misses_while_a_mapping_is_created(start: str, delivered: int) -> None:
    """The overview's last question: creating takes six seconds, a burst comes after two."""
    with lu.open_lab("embedded", physics=Physics(mapping_creation=(6.0, 6.0))) as lab:
        arn, dynamodb, functions = make_table(lab), *lab.clients("dynamodb", "lambda")
        role = lab.role("reader", {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"})
        lab.deploy_function("count", "def handler(event, context): return 0", role=role)
        dynamodb.put_item(TableName="Changes", Item={"id": {"S": "before"}})
        lab.clock.advance(seconds=5)
        functions.create_event_source_mapping(
            FunctionName="count", EventSourceArn=arn, StartingPosition=start
        )
        lab.clock.advance(seconds=2)
        dynamodb.put_item(TableName="Changes", Item={"id": {"S": "after"}})
        lab.clock.advance(minutes=1)
        assert lab.invocations("count").batch_size.sum() == delivered


def test_the_stages_of_the_overview() -> None:
    stages = {row["Stage"]: row for row in rows_under(text("pipeline"), "Stage")}
    state, map_, reduce = (function.mapping for function in parts.functions())
    names = parts.NAMES
    assert stages["StateLambda"]["Reads"] == (
        f"`{names.stream}`, {parts.SHARDS} shards, batches of up to {state['BatchSize']}"
    )
    assert stages["MapLambda"]["Reads"] == (
        f"stream of `{names.state_table}`, batches of up to {map_['BatchSize']:,}, "
        f"window {map_['MaximumBatchingWindowInSeconds']} s"
    )
    assert stages["ReduceLambda"]["Reads"] == (
        f"stream of `{names.reduce_table}`, batches of up to {reduce['BatchSize']:,}"
    )
    assert [
        stages[name]["Writes to"].strip("`")
        for name in ("generator", "StateLambda", "MapLambda", "ReduceLambda")
    ] == [names.stream, names.state_table, names.reduce_table, names.aggregate_table]
    assert f"up to {PATIENCE:.0f} seconds" in stages["scoreboard"]["Does"]
    assert not {"MaximumBatchingWindowInSeconds", "ParallelizationFactor"} & (
        state.keys() | reduce.keys()
    )


# -- what is modelled ------------------------------------------------------------------------------


def test_the_table_of_constants() -> None:
    """Name, value, mark and source of every constant, in the order of the code."""
    page = [
        (row["Constant"].strip("`"), quantity(row["Value"]), row["Mark"], row["Source, or reason"])
        for row in rows_under(text("what_is_modelled"), "Constant")
    ]
    code = [
        (each["name"], pytest.approx(each["value"]), each["mark"], each["source"])
        for each in as_records(Physics())
    ]
    assert [row[0] for row in page] == [row[0] for row in code]
    for shown, real in zip(page, code, strict=True):
        assert shown == real


def test_constants_that_the_rules_name() -> None:
    """A name of ours in the prose is a constant's; their values stand in one place only."""
    rules = rows_under(text("what_is_modelled"), "The emulator")
    named = {
        name
        for row in rules
        for cell in row.values()
        for name in re.findall(r"`([a-z]+(?:_[a-z]+)+|retention|rollover)`", cell)
    }
    assert named
    assert named <= {each["name"] for each in as_records(Physics())}


def test_physics_as_the_page_changes_it() -> None:
    names: dict[str, Any] = {"lu": lu}
    (snippet,) = python_blocks(text("what_is_modelled"))
    exec(snippet.replace("open_lab(", "open_lab('embedded', "), names)
    with names["lab"] as lab:
        arn = make_table(lab)
        lab.clock.advance(hours=4)
        assert listed(lab, arn) == (8, 4)


def test_the_operations_on_offer() -> None:
    rows = rows_under(text("what_is_modelled"), "Operations")
    shown = {
        (row["Client"].strip("`"), row["Answered by"]): set(row["Operations"].split(", "))
        for row in rows
    }
    real = {
        (service, who): set(operations)
        for who, table in (("the lab", gateway.MODELLED), ("MiniStack", gateway.BACKED))
        for service, operations in table.items()
    }
    assert shown == real


def refusal(call: Any, **request: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as refused:
        call(**request)
    answer = refused.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


NOT_MODELLED = ("NotImplemented", 501)
ARN_OF_TICKS = "arn:aws:kinesis:us-east-1:123456789012:stream/ticks"


def test_settings_of_a_mapping_that_are_refused(lab: Lab) -> None:
    arn, functions = make_table(lab), lab.client("lambda")
    role = lab.role("reader", {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"})
    lab.deploy_function("count", "def handler(event, context): return 0", role=role)
    mapping = {"FunctionName": "count", "EventSourceArn": arn, "StartingPosition": "LATEST"}
    create = functions.create_event_source_mapping
    key = "arn:aws:kms:us-east-1:123456789012:key/1"
    assert refusal(create, **mapping, KMSKeyArn=key) == NOT_MODELLED
    lanes_and_windows = {"ParallelizationFactor": 2, "TumblingWindowInSeconds": 10}
    assert refusal(create, **mapping, **lanes_and_windows) == NOT_MODELLED
    queue = "arn:aws:sqs:us-east-1:123456789012:q"
    assert refusal(create, FunctionName="count", EventSourceArn=queue) == NOT_MODELLED


def test_what_else_is_refused(lab: Lab) -> None:
    dynamodb, kinesis, functions, sns = lab.clients("dynamodb", "kinesis", "lambda", "sns")
    make_table(lab)
    kinesis.create_stream(StreamName="ticks", ShardCount=1)
    topic = sns.create_topic(Name="news")["TopicArn"]
    refused = [
        (kinesis.create_stream, {"StreamName": "any", "WarmThroughputMiBps": 10}),
        (kinesis.create_stream, {"StreamName": "any", "RecordDistributionStrategy": "AUTO"}),
        (kinesis.list_stream_consumers, {"StreamARN": ARN_OF_TICKS}),
        (
            dynamodb.update_table,
            {"TableName": "Changes", "OnDemandThroughput": {"MaxWriteRequestUnits": 10}},
        ),
        (
            dynamodb.update_table,
            {
                "TableName": "Changes",
                "ReplicaUpdates": [{"Create": {"RegionName": "eu-west-1"}}],
            },
        ),
        (dynamodb.create_backup, {"TableName": "Changes", "BackupName": "now"}),
        (functions.list_function_url_configs, {"FunctionName": "count"}),
        (sns.subscribe, {"TopicArn": topic, "Protocol": "email", "Endpoint": "a@example.org"}),
        (
            sns.subscribe,
            {
                "TopicArn": topic,
                "Protocol": "lambda",
                "Endpoint": "arn:aws:lambda:us-east-1:1:function:f",
            },
        ),
    ]
    for call, request in refused:
        assert refusal(call, **request) == NOT_MODELLED, request
    for setting in (
        {"OnDemandThroughput": {"MaxWriteRequestUnits": 10}},
        {"ResourcePolicy": "{}"},
    ):
        assert refusal(make_table, lab=lab, name="Another", **setting) == NOT_MODELLED, setting


def provisioned(reads: int, writes: int) -> dict[str, Any]:
    return {
        "BillingMode": "PROVISIONED",
        "ProvisionedThroughput": {"ReadCapacityUnits": reads, "WriteCapacityUnits": writes},
    }


def test_what_was_refused_once_and_is_modelled_now(lab: Lab) -> None:
    """Each of these stood in the list of what is refused."""
    dynamodb, streams, kinesis = lab.clients("dynamodb", "dynamodbstreams", "kinesis")
    warm = {"WarmThroughput": {"ReadUnitsPerSecond": 13000, "WriteUnitsPerSecond": 5000}}
    arn = make_table(lab, **warm)
    assert listed(lab, arn) == (5, 5)

    dynamodb.update_table(TableName="Changes", **provisioned(5, 9000))
    assert len(lab.partitions("Changes")) == 10
    dynamodb.update_table(TableName="Changes", BillingMode="PAY_PER_REQUEST")
    assert len(lab.partitions("Changes")) == 10, "nothing is merged"

    shard = lu.read_lineage(streams, arn).open_shards[0]
    at = {"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "AT_TIMESTAMP"}
    if "Timestamp" in streams.meta.service_model.shape_for("GetShardIteratorInput").members:
        at |= {"Timestamp": lab.clock.now()}
        assert streams.get_shard_iterator(**at)["ShardIterator"]
    else:  # a boto3 of before October 2026 cannot say which moment
        assert refusal(streams.get_shard_iterator, **at) == ("ValidationException", 400)

    ends = {"Enabled": True, "AttributeName": "ends"}
    dynamodb.update_time_to_live(TableName="Changes", TimeToLiveSpecification=ends)
    found = dynamodb.describe_time_to_live(TableName="Changes")["TimeToLiveDescription"]
    assert found["TimeToLiveStatus"] == "ENABLED"

    kinesis.create_stream(StreamName="ticks")
    assert len(kinesis.list_shards(StreamName="ticks")["Shards"]) == 4, "on demand"
    kinesis.create_stream(StreamName="few", ShardCount=1)
    first = {"StreamName": "few", "ShardId": "shardId-000000000000"}
    at = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": lab.clock.now()}
    assert kinesis.get_shard_iterator(**first, **at)["ShardIterator"]
    kinesis.split_shard(StreamName="few", ShardToSplit=first["ShardId"], NewStartingHashKey="5")
    lab.clock.advance(minutes=1)
    latest = kinesis.list_shards(StreamName="few", ShardFilter={"Type": "AT_LATEST"})
    assert len(latest["Shards"]) == 2


@pytest.mark.parametrize(
    ("reads", "writes", "count"), [(5, 5, 1), (3000, 1000, 2), (5, 3600, 4), (9000, 3000, 6)]
)
def test_partitions_of_a_provisioned_table(lab: Lab, reads: int, writes: int, count: int) -> None:
    """Its reads by what a partition reads plus its writes by what it writes, rounded up."""
    lab.client("dynamodb").create_table(
        TableName="Changes",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        **provisioned(reads, writes),
    )
    assert len(lab.partitions("Changes")) == count


def answers_until_refused(call: Any, most: int, **request: Any) -> tuple[int, dict[str, Any]]:
    """How many calls are answered, and how the next one is refused."""
    for count in range(most):
        try:
            call(**request)
        except ClientError as refused:
            return count, refused.response
    raise AssertionError(f"{most} calls, and none is refused")


ONCE = Config(retries={"total_max_attempts": 1})


def test_too_much_for_a_partition_is_refused() -> None:
    with lu.open_lab("embedded", physics=Physics.scaled(100)) as lab:
        make_table(lab)
        dynamodb = lab.client("dynamodb", config=ONCE)
        item = {"TableName": "Changes", "Item": {"id": {"S": "hot"}}}
        count, answer = answers_until_refused(dynamodb.put_item, 100, **item)
        assert count >= Physics.scaled(100).partition_writes
        assert answer["Error"]["Code"] == "ThrottlingException"
        (reason,) = answer["throttlingReasons"]
        assert reason["reason"] == "TableWriteKeyRangeThroughputExceeded"


def test_reading_a_shard_too_often_is_refused(lab: Lab) -> None:
    """But running a cell again is not: unused reads of half a minute are kept."""
    arn, streams = make_table(lab), lab.client("dynamodbstreams", config=ONCE)
    shard = lu.read_lineage(streams, arn).open_shards[0]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="LATEST")
    count, answer = answers_until_refused(
        streams.get_records, 1000, ShardIterator=iterator["ShardIterator"]
    )
    assert count >= Physics.shard_read_rate * Physics.shard_read_burst
    assert answer["Error"]["Code"] == "LimitExceededException"


def test_writing_too_fast_to_a_shard_is_refused(lab: Lab) -> None:
    kinesis = lab.client("kinesis")
    kinesis.create_stream(StreamName="ticks", ShardCount=1)
    failed = [
        kinesis.put_records(
            StreamName="ticks", Records=[{"Data": b"tick", "PartitionKey": "x"}] * 500
        )["FailedRecordCount"]
        for _ in range(3)
    ]
    assert failed[:2] == [0, 0]
    assert failed[2] > 450


def test_what_is_accepted_without_effect(lab: Lab) -> None:
    """An index that is provisioned for one write a second."""
    dynamodb = lab.client("dynamodb")
    index = {
        "IndexName": "by-id",
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"},
        "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
    }
    dynamodb.create_table(
        TableName="Indexed",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        GlobalSecondaryIndexes=[index],
        **provisioned(1000, 1000),
    )
    for number in range(50):
        answer = dynamodb.put_item(TableName="Indexed", Item={"id": {"S": str(number)}})
        assert answer["ResponseMetadata"]["RetryAttempts"] == 0


# -- the claims ------------------------------------------------------------------------------------

CANNOT = "Can't be checked"
CLAIM = re.compile(r"\[(\d+)\.\]\{#claim-(\d+)\} (.+)")
VERDICT = re.compile(r"\*\*([A-Z][a-z' ]+)\.\*\* (.+)\*\(.+\)\*")


def test_every_claim_has_a_number_a_verdict_and_a_source() -> None:
    rows = rows_under(text("claims"), "The lab says")
    for number, row in enumerate(rows, start=1):
        claim = CLAIM.fullmatch(row["The lab says"])
        assert claim, row
        assert claim[1] == claim[2] == str(number)
        assert VERDICT.fullmatch(row["What is true today (source)"]), row
    found = Counter(VERDICT.match(row["What is true today (source)"])[1] for row in rows)
    assert (
        f"Of {len(rows)} statements {found['Holds']} hold, {found['Imprecise']} are imprecise, "
        f"{found['Outdated']} are outdated, {found['Contestable']} are contestable, and "
        f"{found[CANNOT]} can't be checked"
    ) in text("claims")


SHOWN = re.compile(r"\*([^*]+)\*|\[([^\]]+)\]\[([^\]]+)\]")


def test_what_is_shown_is_a_section_of_a_chapter() -> None:
    """The words of a link are the heading that it leads to; before it stands the chapter."""
    definitions = dict(DEFINITION.findall(text("claims")))
    for row in rows_under(text("claims"), "Shown"):
        links = REFERENCE.findall(row["Shown"])
        plain = row["Shown"] in ("not shown yet", "not a subject here") or LINK.match(row["Shown"])
        assert bool(links) != bool(plain), row
        chapter = ""
        for named, words, name in SHOWN.findall(row["Shown"]):
            chapter = named or chapter
            if name:
                file, _, place = definitions[name].partition("#")
                assert title(BOOK / file.replace(".html", ".ipynb")) == chapter, row
                assert place == slug(words), row


def test_every_chapter_shows_a_claim() -> None:
    shown = "".join(row["Shown"] for row in rows_under(text("claims"), "Shown"))
    missing = [path.stem for path in NOTEBOOKS.glob("*.ipynb") if f"*{title(path)}*" not in shown]
    assert not missing


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = re.findall(r"(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    there = [
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in [*PAGES, *NOTEBOOKS.glob("*.ipynb")]
    ]
    assert sorted(listed) == sorted(there)


def test_the_shorter_numbers_of_claims_are_right() -> None:
    """Elsewhere a claim is named by its number, and the link leads to that number."""
    for page in PAGES:
        for words, target in LINK.findall(page.read_text(encoding="utf-8")):
            if target.startswith("#claim-"):
                assert words == f"claim {target.removeprefix('#claim-')}"
