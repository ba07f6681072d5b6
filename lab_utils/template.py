"""The pipeline as a CloudFormation template, from the very declarations that `deploy` follows.

What `deploy` makes by calls, a stack makes from a file: for who wants to read the whole pipeline on
one page, or to keep it for longer than a lab lasts. Nothing that `lab_utils.pipeline` declares is
declared again; here is only how CloudFormation says it.

Names end in the stack's name, as a lab's names end in the lab's id, so that two stacks stand side
by side. The roles' names are left to CloudFormation, which then asks for no more than
CAPABILITY_IAM.

The stream is not encrypted by KMS, as `deploy`'s is not: the messages are made up, and KMS charges
for the calls that Kinesis makes, even where the key is AWS's own and free.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from lab_utils import packaging, roles
from lab_utils.labels import MADE_BY, MADE_BY_TAG
from lab_utils.pipeline import parts
from lab_utils.pipeline.contract import function_file

Json = dict[str, Any]

SUFFIX = "-${AWS::StackName}"
NAMES = parts.NAMES.each(lambda plain: plain + SUFFIX)
LONGEST = 64 - len(parts.NAMES.reduce_function) - 1
"""Characters of a stack's name: a function's own may have 64."""

DESCRIPTION = (
    "The pipeline of the book How Change Leaves DynamoDB: messages in at one end, running totals "
    "out at the other."
)
COMMENTS = """\
To put it up, under a name of at most {longest} characters in which all other names will end:

  aws cloudformation deploy --stack-name trades --template-file pipeline.yaml \\
    --capabilities CAPABILITY_IAM --parameter-overrides Shards={shards}

The stream costs money from then on, by its shards and hours, used or not. To delete everything:

  aws cloudformation delete-stack --stack-name trades
  aws cloudformation wait stack-delete-complete --stack-name trades
"""
AT_THE_START = (
    "It stands as the first lab finds it: of three event source mappings two are missing."
)
CONNECTED = (
    "It is connected from end to end. ReduceLambda reserves concurrency; where the account's limit "
    "is so low that this is refused, leave ReservedConcurrentExecutions out."
)


def template(*, connected: bool = False, shards: int = parts.SHARDS) -> Json:
    """The template: as `deploy` leaves the pipeline, or `connected` as `Pipeline.connect` does.

    `shards` is what the parameter Shards is if nobody sets it.
    """
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"{DESCRIPTION} {CONNECTED if connected else AT_THE_START}",
        "Parameters": {
            "Shards": {
                "Type": "Number",
                "Default": shards,
                "MinValue": 1,
                "Description": "How many shards the stream of messages has",
            }
        },
        "Resources": _resources(connected),
        "Outputs": _outputs(),
    }


# -- resources ----------------------------------------------------------------------------------


def _resources(connected: bool) -> Json:
    made = {_id(NAMES.stream): _stream()}
    for table in parts.tables(NAMES):
        made[_id(table.name)] = _table(table)
    for function in parts.functions(NAMES):
        name = _id(function.name)
        made[f"{name}Logs"] = _logs(function)
        made[_id(function.role)] = _role(function, connected)
        made[name] = _function(function, connected)
        if connected or function.name == NAMES.map_function:
            made[f"{name}Mapping"] = _mapping(function)
    return made


def _stream() -> Json:
    properties = {
        "Name": _sub(NAMES.stream),
        "ShardCount": {"Ref": "Shards"},
        "RetentionPeriodHours": 24,  # what a stream has that nobody asked for more
    }
    return _resource("AWS::Kinesis::Stream", properties, holds_data=True)


def _table(table: parts.Table) -> Json:
    properties: Json = {
        "TableName": _sub(table.name),
        "AttributeDefinitions": [{"AttributeName": table.key, "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": table.key, "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    if table.streams:
        properties["StreamSpecification"] = {"StreamViewType": "NEW_AND_OLD_IMAGES"}
    return _resource("AWS::DynamoDB::Table", properties, holds_data=True)


def _logs(function: parts.Function) -> Json:
    group = _sub(roles.log_group(function.name))
    properties = {"LogGroupName": group, "RetentionInDays": roles.LOG_DAYS}
    return _resource("AWS::Logs::LogGroup", properties, holds_data=True)


def _role(function: parts.Function, connected: bool) -> Json:
    missing = function.missing if connected else ()
    statements = (roles.may_write_logs(function.name), *function.statements, *missing)
    document = roles.document(*map(_narrowed, statements))
    properties = {
        "AssumeRolePolicyDocument": roles.TRUST_LAMBDA,
        "Policies": [{"PolicyName": "lab", "PolicyDocument": document}],
    }
    return _resource("AWS::IAM::Role", properties)


def _function(function: parts.Function, connected: bool) -> Json:
    environment = {name: _sub(value) for name, value in function.environment.items()}
    properties: Json = {
        "FunctionName": _sub(function.name),
        "Role": _attribute(function.role, "Arn"),
        "Runtime": packaging.RUNTIME,
        "Handler": "index.handler",  # inline code becomes a file of this name
        "Timeout": function.timeout,
        "MemorySize": function.memory,
        "Environment": {"Variables": environment},
        "Code": {"ZipFile": function_file(function.file).read_text(encoding="utf-8")},
    }
    if connected and function.name == NAMES.reduce_function:
        properties["ReservedConcurrentExecutions"] = parts.REDUCE_AT_ONCE
    # Lambda would make a log group of its own, which nobody deletes.
    return _resource("AWS::Lambda::Function", properties, after=f"{_id(function.name)}Logs")


def _mapping(function: parts.Function) -> Json:
    properties = {
        **function.mapping,
        "FunctionName": {"Ref": _id(function.name)},
        "EventSourceArn": _stream_arn(function.source),
    }
    if function.name != NAMES.map_function:  # which `connect` finds there
        properties["StartingPosition"] = parts.START
    return _resource("AWS::Lambda::EventSourceMapping", properties)


def _resource(kind: str, properties: Json, *, holds_data: bool = False, after: str = "") -> Json:
    """A resource with its tag; one that `holds_data` is deleted with its stack all the same."""
    tags = [{"Key": MADE_BY_TAG, "Value": MADE_BY}]
    return {
        "Type": kind,
        **({"DependsOn": after} if after else {}),
        **({"DeletionPolicy": "Delete", "UpdateReplacePolicy": "Delete"} if holds_data else {}),
        "Properties": {**properties, "Tags": tags},
    }


def _outputs() -> Json:
    """What the parts are called, and the ARNs of the streams."""
    functions = parts.functions(NAMES)
    sources = [function.source for function in functions]
    called = [*sources, NAMES.aggregate_table, NAMES.parameter_table]
    called += [function.name for function in functions]
    names = {f"{_id(name)}Name": {"Value": {"Ref": _id(name)}} for name in called}
    arns = {f"{_id(name)}{_arn(name)}": {"Value": _stream_arn(name)} for name in sources}
    return names | arns


# -- the language of templates ------------------------------------------------------------------


def _id(name: str) -> str:
    """A resource's name inside the template: the plain one."""
    return name.removesuffix(SUFFIX)


def _sub(text: str) -> Json:
    return {"Fn::Sub": text}


def _attribute(name: str, attribute: str) -> Json:
    return {"Fn::GetAtt": [_id(name), attribute]}


def _stream_arn(source: str) -> Json:
    return _attribute(source, _arn(source))


def _arn(source: str) -> str:
    """The attribute that is the ARN of a stream: the stream of messages, or a table's."""
    return "Arn" if source == NAMES.stream else "StreamArn"


def _narrowed(statement: parts.Statement) -> parts.Statement:
    """The statement for this partition, Region and account, where it is declared for any."""
    here = ":${AWS::Region}:${AWS::AccountId}:"
    resource = statement["Resource"].replace("arn:aws:", "arn:${AWS::Partition}:")
    return {**statement, "Resource": _sub(resource.replace(":*:*:", here))}


# -- as text ------------------------------------------------------------------------------------


def as_json(content: Json) -> str:
    """The template as JSON."""
    return json.dumps(content, indent=2) + "\n"


def as_yaml(content: Json) -> str:
    """The template as YAML for people: how to use it on top, functions as they are written."""
    shards = content["Parameters"]["Shards"]["Default"]
    comments = COMMENTS.format(longest=LONGEST, shards=shards)
    head = "".join(f"# {line}".rstrip() + "\n" for line in comments.splitlines())
    body: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=100)
    return head + body


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """CloudFormation's short forms, and text of several lines as it stands."""

    def ignore_aliases(self, _: Any) -> bool:
        return True

    def mapping(self, data: Json) -> Any:
        if len(data) == 1:
            [(name, value)] = data.items()
            if name == "Ref" or name.startswith("Fn::"):
                text = ".".join(value) if isinstance(value, list) else value
                return self.represent_scalar(f"!{name.removeprefix('Fn::')}", text)
        return self.represent_dict(data)

    def text(self, data: str) -> Any:
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(dict, _Dumper.mapping)
_Dumper.add_representer(str, _Dumper.text)
