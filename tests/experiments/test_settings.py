"""Settings: later sources win, and every mistake gets one clear line."""

import pytest

from backbones import channel
from experiments.config import _CHOICES, Comparison, Run, load, plain, restore
from experiments.errors import UserError
from experiments.plan import labelled_mixers, seed_list
from mixers import registry


def test_later_sources_win(tmp_path):
    (tmp_path / "mine.yaml").write_text("train: {tokens: 5, batch: 7}\nmixer: softmax\n")
    run = load(Run, [f"config={tmp_path / 'mine.yaml'}", "train.tokens=6", "mixer.heads=2", "data.length=32"])
    assert (run.train.tokens, run.train.batch, run.data.length) == (6, 7, 32)
    assert run.mixer == {"name": "softmax", "heads": 2}
    assert run.train.learning_rate == 4e-3  # from the recipe
    assert plain(restore(Run, plain(run))) == plain(run)


def test_numbers_may_be_written_as_powers_of_ten():
    assert load(Run, ["train.learning_rate=1e-3"]).train.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("train.tokns=5", "unknown key 'train.tokns'; did you mean train.tokens"),
        ("data.lenght=5", "unknown key 'data.lenght'; did you mean data.length"),
        ("bakbone.dim=5", "unknown key 'bakbone'; did you mean backbone"),
        ("task=pyton", "unknown task 'pyton'; did you mean python"),
        ("train.tokens=many", "train.tokens: Value 'many'"),
        ("train.tokens=0", "train.tokens=0 must be at least 1"),
        ("train.accumulate=9", "train.accumulate=9 must be at most train.batch="),
        ("train.learning_rate=-1", "must be above 0"),
        ("train.learning_rate=.nan", "must be finite"),
        ("backbone.dropout=1.5", "must lie between 0 and 1"),
        ("train.beta1=1.0", r"must lie in \[0, 1\)"),
        ("backbone.norm=group", "backbone.norm=group must be one of rms, layer, scale, batch"),
        ("backbone.embedding_norm=none", "backbone.embedding_norm=none must be one of null, rms, layer, scale, batch"),
        ("backbone.embedding_std=0", "backbone.embedding_std=0.0 must be above 0"),
        ("backbone.pooling=max", "backbone.pooling=max must be one of mean, padded_mean, first, last"),
        ("backbone.head_width=0", "backbone.head_width=0 must be at least 1"),
        ("train.schedule=step", "train.schedule=step must be one of cosine, linear, inverse_sqrt, constant"),
        ("train.epsilon=0", "train.epsilon=0.0 must be above 0"),
        ("train.clip=0", "train.clip=0.0 must be above 0"),
        ("train.clip_value=-1", "train.clip_value=-1.0 must be above 0"),
        ("train.precision=float64", "must be one of auto, float32, bfloat16"),
        ("tokens", "'tokens' is not of the form key=value"),
        ("mixer=[gtu", "is not a value"),
        ("mixer=[gtu]", "must be a name, such as mixer=gtu"),
        ("mixers={a: {row: gtu}}", "unknown key 'mixers'; did you mean mixer"),
        ("config=absent.yaml", "config=absent.yaml is no file, and not one that comes with mixerzoo"),
        ("seed=-1", "seed=-1 must be at least 0"),
    ],
)
def test_mistakes_get_one_clear_line(argument: str, message: str):
    with pytest.raises(UserError, match=message) as caught:
        load(Run, [argument])
    assert "\n" not in str(caught.value)


def test_rows_and_settings_may_ask_for_what_backbones_have():
    assert set(registry.CHANNELS) == set(_CHOICES["channel"]) == set(channel.CHANNELS)
    assert set(registry.POSITIONS) == set(_CHOICES["position"]) - {"row"} == set(channel.POSITIONS)
    assert set(_CHOICES["norm"]) == set(_CHOICES["final_norm"]) - {None} == set(channel.NORMS)
    assert set(_CHOICES["embedding_norm"]) == {None, *channel.NORMS}
    assert set(_CHOICES["pooling"]) == set(channel.POOLINGS)


def test_mixers_are_names_patterns_or_labels():
    found = labelled_mixers(["gtu", "gtu*5,softmax", {"slow": {"row": "gtu", "decay": 0.9}}])
    assert found == [
        (None, {"name": "gtu"}),
        (None, {"name": "gtu*5,softmax"}),
        ("slow", {"name": "gtu", "decay": 0.9}),
    ]
    settings = load(Comparison, ["mixers={slow: {row: gtu}}"])
    assert labelled_mixers(settings.mixers) == [("slow", {"name": "gtu"})]


@pytest.mark.parametrize("mixers", [[], None, [3], [{"slow": "gtu"}], [{"slow": {"name": "gtu"}}]])
def test_mixers_that_are_none_are_refused(mixers):
    with pytest.raises(UserError, match="mixers"):
        labelled_mixers(mixers)


def test_seeds_are_a_number_or_a_list():
    assert seed_list(3) == [0, 1, 2]
    assert seed_list([5, 1]) == [5, 1]
    with pytest.raises(UserError, match="repeats a seed"):
        seed_list([1, 1])
    for seeds in (0, -1, [], [-1], ["a"], "three", True, 1.5):
        with pytest.raises(UserError, match="seeds="):
            seed_list(seeds)


def test_match_is_an_option_of_comparisons():
    assert load(Comparison, ["match=parameters"]).match == "parameters"
    with pytest.raises(UserError, match="match=flops must be one of null, parameters"):
        load(Comparison, ["match=flops"])
