"""Config dataclasses as absl flags: each field is written once, with its help.

fancyflags and absl's own dataclass support define nested flags (`--config.eta`); these are flat.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from absl import flags

from jaxlab.checks import check_at_least, check_choice

# The flags are the script's, so that its --help shows them.
flags.disclaim_key_flags()


def option(default: Any, help: str, *, choices: tuple[str, ...] | None = None) -> Any:
    """A field of a Config dataclass with the text that `--help` shows for it.

    Args:
      default: an immutable value; lists are tuples.
      help: one sentence on what the field does, with its unit.
      choices: the values that a string may have.
    """
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


def check_choices(config: Any) -> None:
    """Raises ValueError if a field of `config` is none of its `choices`."""
    for field in dataclasses.fields(config):
        if choices := field.metadata.get("choices"):
            check_choice(field.name, getattr(config, field.name), choices)


def check_least(config: Any, least: Mapping[str, float]) -> None:
    """Raises ValueError if a field of `config` is below its least value."""
    for name, bound in least.items():
        check_at_least(name, getattr(config, name), bound)


def define_flags(presets: Mapping[str, Any], flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines `--preset` and one flag for every field of the presets' dataclass.

    A flag that is not given leaves the preset's value; its help shows what each preset has.

    Raises:
      TypeError: a field whose annotation has no flag form.
    """
    names = list(presets)
    flags.DEFINE_enum(
        "preset", names[0], names, "The settings to start from.", flag_values=flag_values
    )
    _define_fields(list(presets.values()), flag_values)


def define_options(defaults: Any, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines one flag for every field of a dataclass that has no presets.

    Raises:
      TypeError: a field whose annotation has no flag form.
    """
    _define_fields([defaults], flag_values)


def _define_fields(instances: list[Any], flag_values: flags.FlagValues) -> None:
    """The flags of a dataclass; their help shows what each instance has."""
    annotations = typing.get_type_hints(type(instances[0]))
    for field in dataclasses.fields(instances[0]):
        values = [_show(getattr(instance, field.name)) for instance in instances]
        shown = values[0] if len(set(values)) == 1 else " / ".join(values)
        parser = _parser(field.name, annotations[field.name], field.metadata.get("choices"))
        boolean: dict[str, Any] = {"boolean": True} if annotations[field.name] is bool else {}
        flags.DEFINE(
            parser,
            field.name,
            None,
            f"{field.metadata.get('help', '')} [{shown}]",
            flag_values=flag_values,
            serializer=_Serializer(),
            **boolean,
        )


def config_from_flags(presets: Mapping[str, Any], flag_values: flags.FlagValues = flags.FLAGS):
    """The config that the parsed flags describe: the preset, with what was given on top."""
    return options_from_flags(presets[flag_values.preset], flag_values)


def options_from_flags(defaults: Any, flag_values: flags.FlagValues = flags.FLAGS):
    """`defaults` with what the parsed flags give on top."""
    given = {
        field.name: flag_values[field.name].value
        for field in dataclasses.fields(defaults)
        if flag_values[field.name].present
    }
    return dataclasses.replace(defaults, **given)


def given_flags(names: Iterable[str], flag_values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Those of the named flags that were given, as arguments that are read as the same values."""
    given = [flag_values[name] for name in names if flag_values[name].present]
    # absl writes nothing at all for a value of None.
    return [f"--{f.name}=none" if f.value is None else f.serialize() for f in given]


class _ValueParser(flags.ArgumentParser):
    """Parses one value by `convert`; text that means None where the field allows it."""

    def __init__(self, convert: Callable[[str], Any], kind: str, optional: bool):
        super().__init__()
        self._convert = convert
        self._optional = optional
        self._kind = kind
        self.syntactic_help = kind

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        if self._optional and argument.lower() in ("", "none"):
            return None
        try:
            return self._convert(argument)
        except ValueError as error:
            raise ValueError(f"{argument!r} is not {self._kind}: {error}") from None

    def flag_type(self) -> str:
        return self._kind


class _Serializer(flags.ArgumentSerializer):
    """Text that is read back as the same value; that of `--help` is shorter, see `_show`."""

    def serialize(self, value: Any) -> str:
        if isinstance(value, tuple):
            return ",".join(map(self.serialize, value))
        return repr(float(value)) if isinstance(value, float) else str(value)


def _parser(name: str, annotation: Any, choices: tuple[str, ...] | None) -> flags.ArgumentParser:
    options = typing.get_args(annotation)
    optional = types.NoneType in options
    if optional:
        (annotation,) = [kind for kind in options if kind is not types.NoneType]
    if annotation is bool:
        return flags.BooleanParser()
    if typing.get_origin(annotation) is tuple:
        item, *others = typing.get_args(annotation)
        length = None if others == [...] else 1 + len(others)
        convert, kind = _scalar(name, item, choices)
        form = "a comma-separated list" if length is None else f"{length} values between commas"
        return _ValueParser(_list_of(convert, length), f"{form}, each {kind}", optional)
    convert, kind = _scalar(name, annotation, choices)
    return _ValueParser(convert, kind, optional)


def _scalar(name: str, annotation: Any, choices: tuple[str, ...] | None):
    if annotation is str and choices:
        return _choose(choices), f"one of {', '.join(choices)}"
    kinds = {int: (_integer, "an integer"), float: (float, "a number"), str: (str, "text")}
    if annotation not in kinds:
        raise TypeError(f"field {name}: {annotation} has no flag form")
    return kinds[annotation]


def _list_of(convert: Callable[[str], Any], length: int | None) -> Callable[[str], tuple]:
    def read(text: str) -> tuple:
        values = tuple(convert(part.strip()) for part in text.split(",") if part.strip())
        if length not in (None, len(values)):
            raise ValueError(f"it has {len(values)}")
        return values

    return read


def _integer(text: str) -> int:
    """Accepts `1e4` and `10_000` beside `10000`."""
    value = float(text)
    if value != int(value):
        raise ValueError("it has a fraction")
    return int(text) if text.lstrip("+-").isdigit() else int(value)


def _choose(choices: tuple[str, ...]) -> Callable[[str], str]:
    def choose(text: str) -> str:
        if text not in choices:
            raise ValueError("unknown choice")
        return text

    return choose


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
