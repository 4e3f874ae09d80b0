"""The pages under docs: examples run and show what they say, and no public name is left out."""

import doctest
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
ROOMS = sorted(page.stem for page in (DOCS / "examples").glob("*.md"))
_spec = importlib.util.spec_from_file_location("generate_api", DOCS / "generate_api.py")
generate_api = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate_api)
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("room", ROOMS)
def test_examples_show_what_they_say(room, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = DOCS / "examples" / f"{room}.md"
    code = "\n".join(_BLOCK.findall(page.read_text("utf-8")))
    parsed = doctest.DocTestParser().get_doctest(code, {}, room, str(page), 0)
    runner = doctest.DocTestRunner(
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False
    )
    output = []
    failed, tried = runner.run(parsed, out=output.append)
    assert tried > 10
    assert not failed, "".join(output)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_has_its_example(room):
    text = (DOCS / "examples" / f"{room}.md").read_text("utf-8")
    names = importlib.import_module(f"jaxlab.{room}").__all__
    assert [name for name in names if not re.search(rf"\b{room}\.{name}\b", text)] == []


@pytest.mark.parametrize("room", generate_api.ROOMS)
def test_api_pages_are_as_generated(room):
    written = (DOCS / "api" / f"{room}.md").read_text("utf-8")
    assert written == generate_api.page(room), "run: python docs/generate_api.py"
