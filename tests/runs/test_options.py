import dataclasses

import pytest
from absl import flags

from jaxlab.runs import check_choices, check_least, config_from_flags, define_flags, option
from jaxlab.runs.options import given_flags


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = option(100, "gradient steps")
    eta: tuple[float, ...] = option((1.0, 100.0), "stepsizes")
    rules: tuple[str, ...] = option(("risk",), "rules", choices=None)
    experiment: str = option("all", "which one", choices=("all", "bound"))
    data: str | None = option(None, "a file of the user's")
    limit: int | None = option(None, "at most so many rows")
    bias: bool = option(True, "append a constant feature")
    scale: float = option(0.5, "scale")
    span: tuple[int, int] = option((20, 200), "least and most")


PRESETS = {"smoke": Config(), "small": Config(steps=5000), "paper": Config(steps=5000, eta=(1e6,))}


def parse(*arguments):
    values = flags.FlagValues()
    define_flags(PRESETS, values)
    values(["script", *arguments])
    return config_from_flags(PRESETS, values)


def test_presets_are_the_start_and_flags_override():
    assert parse() == Config()
    assert parse("--preset=small", "--nobias") == Config(steps=5000, bias=False)
    assert parse("--preset=paper", "--steps=7").eta == (1e6,)


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        ("--steps=1e4", "steps", 10_000),
        ("--steps=12345678901234567", "steps", 12345678901234567),
        ("--eta=1,1e3", "eta", (1.0, 1000.0)),
        ("--eta=5", "eta", (5.0,)),
        ("--rules=risk, l2", "rules", ("risk", "l2")),
        ("--data=a.npz", "data", "a.npz"),
        ("--data=", "data", None),
        ("--limit=none", "limit", None),
        ("--limit=3", "limit", 3),
        ("--bias=false", "bias", False),
        ("--scale=2", "scale", 2.0),
        ("--span=1,5", "span", (1, 5)),
        ("--experiment=bound", "experiment", "bound"),
    ],
)
def test_values(argument, field, value):
    got = getattr(parse(argument), field)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--steps=1.5", "'1.5' is not an integer"),
        ("--eta=a", "comma-separated list, each a number"),
        ("--experiment=other", "one of all, bound"),
        ("--limit=x", "not an integer"),
        ("--span=20", "'20' is not 2 values between commas, each an integer: it has 1"),
        ("--stepz=3", "stepz"),
    ],
)
def test_a_wrong_value_names_what_is_wanted(argument, message):
    with pytest.raises(flags.Error, match=message):
        parse(argument)


def test_help_shows_what_each_preset_has():
    values = flags.FlagValues()
    define_flags(PRESETS, values)
    text = " ".join(values.get_help().split())
    assert "gradient steps [100 / 5000 / 5000]" in text
    assert "a file of the user's [None]" in text
    assert "stepsizes [1,100 / 1,100 / 1e+06]" in text


def test_a_field_without_a_flag_form():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        table: dict = option(None, "no flag can say this")

    with pytest.raises(TypeError, match="field table"):
        define_flags({"smoke": Odd()}, flags.FlagValues())


def test_choices_are_checked_in_code_too():
    with pytest.raises(ValueError, match="experiment must be one of all, bound, got 'x'"):
        check_choices(Config(experiment="x"))


def test_least_values_are_checked_by_name():
    check_least(Config(steps=1), {"steps": 1, "scale": 0.5})
    with pytest.raises(ValueError, match="steps must be >= 2, got 1"):
        check_least(Config(steps=1), {"steps": 2})


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--scale=0.123456789", "--scale=0.123456789"),
        ("--eta=1e16,0.30000000000000004", "--eta=1e+16,0.30000000000000004"),
        ("--limit=none", "--limit=none"),
        ("--data=", "--data=none"),
        ("--steps=1e4", "--steps=10000"),
        ("--rules=risk, l2", "--rules=risk,l2"),
        ("--rules=", "--rules="),
        ("--nobias", "--nobias"),
    ],
)
def test_given_flags_are_told_as_they_are_read(argument, said):
    def read(*arguments):
        values = flags.FlagValues()
        define_flags({"small": Config(limit=3, data="x")}, values)
        values(["script", *arguments])
        return values

    fields = ["preset", *(field.name for field in dataclasses.fields(Config))]
    values = read("--preset=small", argument)
    told = given_flags(fields, values)
    assert told == ["--preset=small", said]
    presets = {"small": Config(limit=3, data="x")}
    assert config_from_flags(presets, read(*told)) == config_from_flags(presets, values)
