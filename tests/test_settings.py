"""Every numeric setting of every stage has a range, and what is outside it is refused."""

import dataclasses
import importlib
import math
import pkgutil
import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmclip
from mmclip import config
from mmclip.errors import UsageError

PARTS = ("clip", "config", "datasets", "encoders", "modalities", "surveys", "tasks", "training",
         "transfer", "vectors")  # fmt: skip
INNER = ("Statistics", "Plan.training")


def kinds():
    """Every dataclass of settings: what a `--set`, a `--config` or an option ends up in."""
    found = {}
    for part in PARTS:
        package = importlib.import_module(f"mmclip.{part}")
        names = [f"mmclip.{part}"]
        if hasattr(package, "__path__"):
            names += [m.name for m in pkgutil.walk_packages(package.__path__, f"mmclip.{part}.")]
        for name in names:
            module = importlib.import_module(name)
            for kind in vars(module).values():
                if (
                    isinstance(kind, type)
                    and dataclasses.is_dataclass(kind)
                    and kind.__module__ == name
                    and (kind.__name__.endswith(("Config", "Settings"))
                         or (kind.__name__ == "Options" and "readers" not in name)
                         or (name.endswith("sharded_build") and kind.__name__ == "Plan"))
                ):  # fmt: skip
                    found[f"{name}.{kind.__name__}"] = kind
    return found


KINDS = kinds()


def element(hint):
    """int or float where a field holds it, alone, as an option or in a tuple; else None."""
    args = [a for a in typing.get_args(hint) if a not in (type(None), Ellipsis)]
    one = args[0] if args and typing.get_origin(hint) is not typing.Literal else hint
    return one if one in (int, float) and "dict" not in str(hint) else None


def numeric(kind):
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind) if element(hints[f.name])}


FIELDS = [(name, field) for name, kind in KINDS.items() for field in numeric(kind)]


def test_the_settings_of_every_stage_are_found():
    names = " ".join(KINDS)
    for one in ("TrainConfig", "PretrainConfig", "DecodeConfig", "FinetuneConfig", "AdaptConfig",
                "PreprocessConfig", "ClusterConfig", "MapConfig", "BenchConfig", "EncoderConfig",
                "SpectraSettings", "client.settings.Settings", "informer.Options",
                "neighbours.Options", "sharded_build.Plan"):  # fmt: skip
        assert one in names
    assert len(FIELDS) > 120


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_numeric_field_has_a_range_that_its_default_is_in(name, field):
    kind = KINDS[name]
    assert field in config.ranges(kind), f"{name}.{field} declares no range"
    default = next(f.default for f in dataclasses.fields(kind) if f.name == field)
    for value in default if isinstance(default, tuple) else (default,):
        assert value is None or value in config.ranges(kind)[field]


def outside(span, whole):
    """Values that a field may not have."""
    values = [span.low - 1, span.low - 10.0**9, -math.inf, math.inf, math.nan]
    if span.high < math.inf:
        values += [span.high + 1, span.high * 10 + 10]
    values += [span.low] * span.above + [span.high] * span.below
    if whole:
        return [int(v) for v in values if math.isfinite(v)] + [2**70, -(2**70)]
    return [float(v) for v in values]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_what_is_outside_is_refused_in_one_sentence(name, field):
    kind, hint = KINDS[name], numeric(KINDS[name])[field]
    span = config.ranges(kind)[field]
    for value in outside(span, element(hint) is int):
        given = (value,) if typing.get_origin(hint) is tuple else value
        with pytest.raises(UsageError, match=field) as caught:
            config.resolve(kind, "stage", None, {field: given})
        assert caught.value.exit_code == 2
        assert "\n" not in caught.value.message
    for value in ("many", True, [[1]]):
        with pytest.raises(UsageError):
            config.resolve(kind, "stage", None, {field: value})


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FIELDS), st.one_of(st.integers(), st.floats()))
def test_any_number_is_taken_if_and_only_if_it_is_in_the_range(which, value):
    name, field = which
    kind, hint = KINDS[name], numeric(KINDS[name])[field]
    fits = value in config.ranges(kind)[field]
    fits &= not (isinstance(value, float) and element(hint) is int)
    given = (value,) if typing.get_origin(hint) is tuple else value
    try:
        made = config.resolve(kind, "stage", None, {field: given})
    except UsageError:
        assert not fits or field in ("warm_up", "heads", "features", "crop", "bases", "keep")
        return
    assert fits
    kept = getattr(made, field)
    # A whole number beyond 2^53 is a float to the nearest one.
    assert kept == given or np.array_equal(kept, np.asarray(given, float))


@pytest.mark.parametrize(
    "words",
    [("gradient_clip=-1",), ("batch=1",), ("batch=-5",), ("epochs=-3",), ("early_stop=-1",),
     ("dropout=1",), ("cycles=0",), ("logit_scale=0",), ("seed=-1",), ("seed=4294967296",),
     ("learning_rate=nan",), ("views.xp.width=0",), ("views.xp.width=\"a\"",)],
)  # fmt: skip
def test_train_refuses_what_trained_nonsense(words, trained, capsys):
    from tests.cli.test_cli import ask

    code, _, err = ask(capsys, "train", "--set", words[0], "--name", "no", "-w", trained)
    assert code == 2, err
    assert words[0].partition("=")[0].rpartition(".")[2] in err
    assert "Traceback" not in err


@pytest.mark.parametrize("text", ["-1", "4294967296", "1.5", "a", "", "9" * 400])
def test_what_is_no_seed_is_refused(text):
    from mmclip.cli import inputs

    with pytest.raises(UsageError, match="seeds"):
        inputs.seeds(f"42,{text}")


def test_a_seed_named_twice_counts_once():
    from mmclip.cli import inputs

    assert inputs.seeds("42, 66,42,66,0") == (42, 66, 0)
    assert mmclip.__version__
