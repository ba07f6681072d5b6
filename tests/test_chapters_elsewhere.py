"""A chapter is executed elsewhere: its asserts hold, no cell raises, and it leaves nothing.

Chapters about partitions and moved clocks are not here: they open the embedded lab on any target.
What answers as LocalStack is MiniStack's server, or what listens at LAB_TEST_ENDPOINT. What answers
as AWS is the lab's own server, which looks at roles and has four shards, as AWS does. Executed
notebooks are kept in the folder LAB_TEST_KEEP, if it is named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import nbformat
import pytest
from botocore.exceptions import ClientError
from serving import serving

from lab_utils.kinds import KINDS, Found, Kind
from lab_utils.refusals import is_unknown_there

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.notebooks import run  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.waiting]

GIVEN = os.environ.get("LAB_TEST_ENDPOINT")
CHAPTERS = [
    "one_record",
    "which_writes_leave_a_record",
    "connect_the_pipeline",
    "on_localstack_and_aws",
]
REGION = "us-east-1"

There = dict[str, list[str]]


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """The address of what is taken for AWS."""
    with serving() as served:
        yield served.address


@pytest.fixture
def target(request: pytest.FixtureRequest) -> str:
    """That of the class whose test it is."""
    return str(request.cls.target)


@pytest.fixture
def endpoint(request: pytest.FixtureRequest, target: str) -> str:
    """Where the target listens."""
    if target == "aws":
        return str(request.getfixturevalue("aws"))
    return GIVEN or str(request.getfixturevalue("elsewhere"))


@pytest.fixture
def somebody(endpoint: str) -> boto3.Session:
    """Who may look at everything there."""
    return boto3.Session("test", "test", region_name=REGION)


@pytest.fixture
def reader(
    endpoint: str,
    somebody: boto3.Session,
    chapter: str,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """The environment of a reader who chose a target, and nothing of who runs the tests."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "LAB_", "LOCALSTACK_"))]:
        monkeypatch.delenv(name)
    chosen = {"LAB_TARGET": target, "AWS_ENDPOINT_URL": endpoint, "LAB_MESSAGES": "200"}
    if target == "localstack":
        return chosen
    iam = somebody.client("iam", endpoint_url=endpoint)  # root credentials open no lab on AWS
    iam.create_user(UserName=f"reader-of-{chapter}")
    key = iam.create_access_key(UserName=f"reader-of-{chapter}")["AccessKey"]
    return chosen | {
        "LAB_AWS_CONFIRM": "123456789012",
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder for executed notebooks."""
    folder = Path(os.environ.get("LAB_TEST_KEEP") or tmp_path / "executed").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def listed(kind: Kind, somebody: boto3.Session, endpoint: str) -> list[Found]:
    """Those of a kind; none where what answers has no such kind."""
    try:
        return list(kind.all(somebody.client(kind.service, endpoint_url=endpoint)))
    except ClientError as refusal:
        if not is_unknown_there(refusal):
            raise
        return []


def there(somebody: boto3.Session, endpoint: str) -> There:
    """All that can be made by a lab's clients, by its kind, whoever made it."""
    return {
        kind.plural: sorted(found.called for found in listed(kind, somebody, endpoint))
        for kind in KINDS
    }


class Elsewhere:
    """Every chapter that runs elsewhere, on one target: workers take a target each."""

    target: str

    @pytest.mark.parametrize("chapter", CHAPTERS)
    def test_a_chapter_runs_and_leaves_nothing(
        self,
        chapter: str,
        kept: Path,
        somebody: boto3.Session,
        endpoint: str,
        reader: dict[str, str],
        tmp_path: Path,
    ) -> None:
        before = there(somebody, endpoint)
        notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
        copy = tmp_path / f"{chapter}.ipynb"
        nbformat.write(notebook, copy)
        executed = run(
            copy,
            keep=kept / f"{chapter}-{self.target}.ipynb",
            PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            **reader,
        )
        shown = [
            output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs
        ]
        assert not [output for output in shown if output.output_type == "error"]
        text = "".join(str(output.get("text", output.get("data", ""))) for output in shown)
        assert f"<lab on {self.target}" in text, "the chapter says where it ran"
        assert there(somebody, endpoint) == before, "it leaves nothing"


class TestOnLocalStack(Elsewhere):
    target = "localstack"


@pytest.mark.skipif(bool(GIVEN), reason="what listens there is not to be taken for AWS")
class TestOnAws(Elsewhere):
    target = "aws"
