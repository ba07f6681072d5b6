"""From a handler to a zip: a file, a text, a function."""

from __future__ import annotations

import io
import textwrap
import zipfile

import pytest

from lab_utils.errors import LabError
from lab_utils.packaging import package

SOURCE = "LIMIT = 3\n\ndef handler(event, context):\n    return LIMIT\n"


def contents(code):
    with zipfile.ZipFile(io.BytesIO(code.zip)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_a_text_becomes_the_module_app():
    code = package(SOURCE)
    assert code.handler == "app.handler"
    assert contents(code) == {"app.py": SOURCE}


@pytest.mark.parametrize("as_text", [True, False])
def test_a_file_keeps_its_name(tmp_path, as_text):
    file = tmp_path / "count_things.py"
    file.write_text(SOURCE + "# ü\n", encoding="utf-8")
    code = package(str(file) if as_text else file)
    assert code.handler == "count_things.handler"
    assert contents(code) == {"count_things.py": SOURCE + "# ü\n"}


@pytest.mark.parametrize(
    ("source", "entry"),
    [
        ("def lambda_handler(event, context):\n    pass\n", "lambda_handler"),
        ("def lambda_handler(e, c):\n    pass\ndef handler(e, c):\n    pass\n", "handler"),
        ("def work(e, c):\n    pass\nhandler = work\n", "handler"),
        ("from json import dumps as handler\nx = 1\n", "handler"),
    ],
)
def test_the_entry_point_is_found(source, entry):
    assert package(source).handler == f"app.{entry}"


def test_a_function_takes_its_name_along():
    code = package(doubled)
    assert code.handler == "app.doubled"
    names = {"__name__": "app"}
    exec(contents(code)["app.py"], names)
    assert names["doubled"]({"n": 4}, None) == 8


FACTOR = 2


def doubled(event, context):
    return event["n"] * FACTOR


def test_the_same_code_makes_the_same_zip():
    assert package(SOURCE).zip == package(SOURCE).zip
    assert package(SOURCE).zip != package(SOURCE + "\n").zip


def test_a_text_of_one_line_is_a_text():
    assert package("def handler(event, context): return 1").handler == "app.handler"


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ("nowhere.py", "There is no file nowhere.py"),
        ("nowhere" * 1000, "There is no file nowhere"),
        ("def other(event, context):\n    pass\n", "has no function named handler"),
        ("x = 1\ndef handler(event, context)\n    pass\n", "line 2: expected ':'"),
    ],
)
def test_what_can_not_be_deployed_is_told_in_a_sentence(handler, words):
    with pytest.raises(LabError) as caught:
        package(handler)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(LabError, match="There is no file"):
        package(tmp_path)


def test_a_closure_and_a_lambda_are_refused():
    outside = 5

    def closure(event, context):
        return outside

    for handler, words in (
        (closure, "takes outside from the function around it"),
        (lambda event, context: 1, "write the handler with def"),
    ):
        with pytest.raises(LabError, match=words):
            package(handler)


def test_no_path_of_this_machine_gets_into_the_zip(tmp_path):
    file = tmp_path / "app.py"
    file.write_text(textwrap.dedent(SOURCE))
    assert str(tmp_path).encode() not in package(file).zip
