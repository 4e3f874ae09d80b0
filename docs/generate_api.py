"""Writes docs/api/ROOM.md, the public names of every room, from their docstrings.

    python docs/generate_api.py

Each name links to the room's page of examples, which the tests run.
"""

import importlib
import inspect
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOMS = (
    "runs",
    "optim",
    "icl",
    "bandits",
    "lm",
    "twohop",
    "unlearn",
    "align",
    "prm",
    "rl",
    "splat",
)


def page(room: str) -> str:
    """The page of a room: its docstring, then a section for every public name."""
    module = importlib.import_module(f"jaxlab.{room}")
    parts = [f"# jaxlab.{room}", "", _text(inspect.getdoc(module))]
    example = DOCS / "examples" / f"{room}.md"
    if example.exists():
        parts += ["", f"Every name at work: [{room}, by example](../examples/{room}.md)."]
    for name in sorted(module.__all__):
        parts += ["", *_section(room, name, getattr(module, name))]
    return "\n".join(parts) + "\n"


def _section(room: str, name: str, value: object) -> list[str]:
    heading = [f"## {name}", ""]
    if not callable(value):
        return [*heading, f"`{room}.{name} = {value!r}`"]
    doc = inspect.getdoc(value) or ""
    # A dataclass without a docstring, and an alias of a type, show that of their class.
    own = doc if getattr(value, "__module__", "").startswith("jaxlab") else ""
    return [*heading, f"```python\n{name}{_signature(value)}\n```", *(["", _text(own)] * bool(own))]


def _signature(value: object) -> str:
    """Arguments with their defaults; shapes and types are in the docstring."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name not in ("parent", "name") or not _is_flax(value)
    ]
    text = str(inspect.Signature(plain))
    return re.sub(r"<(?:function|class|object)? ?'?([\w.]+)[^>]*>", r"\1", text)


def _is_flax(value: object) -> bool:
    return isinstance(value, type) and any(
        base.__module__.startswith("flax") for base in value.__mro__
    )


def _text(doc: str | None) -> str:
    return f"```text\n{(doc or '').replace('```', '')}\n```"


if __name__ == "__main__":
    (DOCS / "api").mkdir(exist_ok=True)
    for room in ROOMS:
        (DOCS / "api" / f"{room}.md").write_text(page(room), "utf-8")
