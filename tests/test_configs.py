"""Every configuration that the command can reach: what its fields may hold, and one flag for each.

Oracle: a wrong value ends in a ValueError that names its field, whatever the value.
"""

import dataclasses
import json
import math
import random
import typing

import jax
import numpy as np
import pytest
import tiny

from jaxae import settings
from jaxae.command import flags as command_flags
from jaxae.command import main as command
from jaxae.data import DataError, Options
from jaxae.fields import Depth, DepthOrZero, Halvings, Range, field_types, unbounded
from jaxae.models import MODELS
from jaxae.recipes import RECIPES
from jaxae.training import Plan, Spec
from jaxae.training.workdir import FORMAT, digest

CONFIGS = {name: module.Config for name, module in MODELS.items()}
KINDS = CONFIGS | {"Plan": Plan, "Options": Options, "Report": settings.Report}
HOSTILE = (math.nan, math.inf, -math.inf, -1, -7, 10**21, 2**31, 2**64 - 1, 0.5, "x", None, ())
SIGNAL = Spec((1, 64, 1), 48, 3, 256, np.full((1, 64, 1), 0.5, np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_states_its_range(kind):
    assert unbounded(KINDS[kind]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_number_may_be_is_refused_by_name(kind):
    for field, hint in field_types(KINDS[kind]).items():
        bounds, several = _range(hint)
        if bounds is None:
            continue
        beyond = (bounds.low - 1, bounds.high + 1, math.nan, math.inf, -math.inf, 10**21, "x", None)
        for value in beyond:
            with pytest.raises(ValueError, match=f"^{field}="):
                KINDS[kind](**{field: (value,) if several else value})


def _range(hint) -> tuple[Range | None, bool]:
    """The range of a number's type, and whether it is that of a tuple of them."""
    if typing.get_origin(hint) is tuple:
        return _range(typing.get_args(hint)[0])[0], True
    notes = getattr(hint, "__metadata__", ())
    return next((note for note in notes if isinstance(note, Range)), None), False


# -- anything at all -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_anything_ends_in_a_model_or_in_the_name_of_a_field(seed):
    """100 times one or two fields of a model: nonsense, choices, and the edges of ranges.

    Networks of many layers are made but not traced, which would take long.
    """
    draw, spec, built = random.Random(seed), tiny.images().spec, 0
    for _ in range(100):
        variant = draw.choice(tiny.FIRST)
        name, fields = tiny.VARIANTS[variant]
        hints = field_types(CONFIGS[name])
        chosen = draw.sample(list(hints), draw.choice((1, 1, 2)))
        changed = {field: _anything(hints[field], draw) for field in chosen}
        said = _refusal(name, fields | changed, SIGNAL if name == "vqvae_audio" else spec)
        assert said is None or any(field in said for field in changed), (name, changed, said)
        built += said is None
    assert 20 < built < 80


def _refusal(name: str, fields: dict, spec: Spec) -> str | None:
    """What is said against a model of these fields; None where its shapes can be had."""
    try:
        config = CONFIGS[name](**fields)
        model = MODELS[name].make(config, spec)
        if not _deep(config):
            jax.eval_shape(model.init, jax.random.key(0))
    except ValueError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"{name} with {fields}") from error
    return None


def _deep(config) -> bool:
    """Whether a field that counts layers, blocks or halvings is above eight."""
    depths = {Depth, DepthOrZero, Halvings, tuple[Depth, ...]}
    return any(np.max(getattr(config, field), initial=0) > 8
               for field, hint in field_types(type(config)).items() if hint in depths)  # fmt: skip


def _anything(hint, draw: random.Random):
    """A value for a field of this type; nonsense in about half of the draws."""
    if draw.random() < 0.5:
        return draw.choice(HOSTILE)
    bounds, several = _range(hint)
    if bounds is not None:
        number = _of_range(hint if not several else typing.get_args(hint)[0], bounds, draw)
        return (number,) * draw.choice((1, 2, 3)) if several else number
    if typing.get_origin(hint) is typing.Literal:
        return draw.choice(typing.get_args(hint))
    return draw.choice((True, False)) if hint is bool else draw.choice(("relu", "tanh", "nothing"))


def _of_range(hint, bounds: Range, draw: random.Random) -> float:
    """An end of the range, or a number a bit inside; a whole one where the type asks for it."""
    if hint.__origin__ is int:
        near = (bounds.low, bounds.low + 1, bounds.low + 3, bounds.high - 1, bounds.high)
        return int(draw.choice(near))
    near = (bounds.low, bounds.low + 1e-30, bounds.low + 0.1, 0.9 * bounds.high, bounds.high)
    return draw.choice([number for number in near if number in bounds])


@pytest.mark.parametrize("seed", range(2))
def test_any_flag_ends_in_settings_or_in_the_name_of_a_field(seed, capsys):
    draw, taken = random.Random(seed), 0
    for _ in range(15):
        name = draw.choice(list(MODELS))
        kind = draw.choice((CONFIGS[name], Plan, Options, settings.Report))
        hints = {f: h for f, h in field_types(kind).items() if _range(h)[0] and not _range(h)[1]}
        field = draw.choice(list(hints))
        value = draw.choice((*HOSTILE[:-2], _of_range(hints[field], _range(hints[field])[0], draw)))
        flag = "--" + field.replace("_", "-")
        said = _refusal_of_flags(name, [flag, str(value)], capsys)
        assert said is None or field in said or flag in said, (name, flag, value, said)
        taken += said is None
    assert 0 < taken < 15


def _refusal_of_flags(name: str, flags: list[str], capsys) -> str | None:
    """What is said against flags beside the first recipe; None where the command would run."""
    try:
        command_flags.from_flags(name, next(iter(RECIPES[name].values()))(), flags)
    except settings.UsageError as error:
        return str(error)
    except SystemExit:
        return capsys.readouterr().err
    return None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("vqvae --prior-head -1", "prior_head=-1 must be at least 0"),
        ("vqvae --block-width -7", "block_width=-7 must be at least 0"),
        ("vqvae --conv-blocks 2147483648", "conv_blocks=2147483648 must be at least 0 and at most"),
        ("acai --critic-rate nan", "critic_rate=nan must be a finite number"),
        ("acai --noise nan", "noise=nan must be a finite number"),
        ("aae --margin inf", "margin=inf must be a finite number"),
        ("vae --learning-rate -0.5", "learning_rate=-0.5 must be at least 0"),
        ("nvae --flows 1000000000000000000000", "flows=1000000000000000000000 must be"),
        ("acn --labels-batch 1000000000000000000000", "labels_batch=1000000000000000000000 must"),
        ("vae --seed 18446744073709551615", "seed=18446744073709551615 must be at least 0"),
        ("vae --seeds 1000000", "seeds=1000000 must be at least 1 and at most 1,000"),
        ("vae --seed 2147483646 --seeds 2", "seed=2147483646 and seeds=2: the last seed"),
        ("vae --iwae-samples 0", "iwae_samples=0 must be at least 1"),
    ],
)
def test_the_command_says_what_a_number_may_be(words, said, tmp_path, capsys):
    try:
        code = command.main(["--model", *words.split(), "--workdir", str(tmp_path)])
    except SystemExit as left:
        code = left.code
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert code not in (0, None)
    assert said in error
    assert not list(tmp_path.iterdir())


def test_seeds_of_training_stay_below_that_of_evaluation():
    from jaxae.command import run

    last = Plan(seed=run.EVALUATION_KEY - 2, seeds=2)
    assert last.seed + last.seeds - 1 == run.EVALUATION_KEY - 1
    with pytest.raises(ValueError, match=r"the last seed would be 2,147,483,647"):
        dataclasses.replace(last, seeds=3)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("config", "latent", "16"), ("config", "latent", 16.0), ("config", "latent", True),
        ("config", "latent", [16]), ("config", "widths", 8), ("config", "widths", ["8"]),
        ("config", "beta", math.nan), ("config", "activation", 3), ("config", "network", "cnn"),
        ("plan", "steps", 1.5), ("plan", "refresh_first", "no"), ("plan", "seed", 2**31 - 1),
        ("options", "dequantise", 1), ("options", "labels", -1), ("report", "images", None),
    ],
)  # fmt: skip
def test_a_folder_with_a_value_of_the_wrong_kind_is_refused(part, field, value, tmp_path):
    held = settings.Settings("digits", CONFIGS["vae"](), Plan()).identity("vae")
    held = json.loads(json.dumps(held | {"format": FORMAT, "report": {}}))

    def keep(config):
        text = json.dumps(config | {"sha256": digest(config)})
        (tmp_path / "config.json").write_text(text)

    keep(held)
    assert command_flags.from_folder(tmp_path, [])[1].plan == Plan()
    keep(held | {part: held[part] | {field: value}})
    with pytest.raises(settings.UsageError, match=rf"config\.json does not hold .*{field}="):
        command_flags.from_folder(tmp_path, [])


def test_a_folder_whose_data_has_no_name_is_refused():
    with pytest.raises(ValueError, match="data=3 must be text"):
        settings.Settings(3, CONFIGS["vae"](), Plan())


def test_options_say_that_it_is_the_data():
    with pytest.raises(DataError, match="labels=-1"):
        Options(labels=-1)


@pytest.mark.parametrize(
    ("name", "field"), [("nvae", "width"), ("vqvae", "conv_width"), ("vqvae_audio", "conv_width")]
)
def test_networks_that_halve_a_width_can_be_as_narrow_as_it_may_be(name, field):
    fields, spec = tiny.VARIANTS[name.replace("_", " ")][1], tiny.images().spec
    narrow = {field: _range(field_types(CONFIGS[name])[field])[0].low}
    assert _refusal(name, fields | narrow, SIGNAL if name == "vqvae_audio" else spec) is None


# -- one flag, one meaning -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_no_two_owners_share_a_flag(name):
    read = command_flags.owners(name)
    assert set(field_types(CONFIGS[name])) <= {f for f, o in read.items() if o == f"{name}.Config"}
    assert read["binarise"] == "Options"
    assert read["steps"] == "Plan"


@pytest.mark.parametrize(
    ("field", "owner"), [("binarise", "Options"), ("steps", "Plan"), ("out", "jaxae"),
                         ("images", "Report"), ("data", "Settings")]
)  # fmt: skip
def test_a_shared_flag_is_named_with_both_owners(field, owner, monkeypatch):
    kind = dataclasses.make_dataclass("Config", [(field, str, "")], bases=(CONFIGS["vae"],),
                                      frozen=True)  # fmt: skip
    monkeypatch.setattr(MODELS["vae"], "Config", kind)
    both = {"vae.Config", owner}
    with pytest.raises(TypeError, match=f"^{field} is a field of") as refused:
        command_flags.owners("vae")
    assert all(name in str(refused.value) for name in both)


def test_the_words_of_the_command_are_those_that_no_field_may_have():
    words = {action.dest for action in command.words_parser()._actions}
    assert words | {"help"} == set(command_flags.WORDS)
