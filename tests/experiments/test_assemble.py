"""From settings to models: patterns, blocks, matched parameters, optimizer rules."""

import math

import pytest
import torch

from experiments.assemble import build_model, count_parameters, layer_rows, match_parameters, model_mixers, resolve
from experiments.config import Comparison, Run, load
from experiments.errors import UserError
from experiments.optimizer import clip_gradient, make_optimizer, schedule, set_learning_rate
from experiments.plan import folder_name, plan
from mixers import names
from tasks.byte_model import ByteModel

TEXT = b"the quick brown fox jumps over the lazy dog. " * 30


@pytest.fixture(scope="module")
def task() -> ByteModel:
    splits = {name: [TEXT] for name in ("train", "validation", "test")}
    return ByteModel(splits, length=16, validation_bytes=100, test_bytes=100, data_note="")


def run(*arguments: str) -> Run:
    return load(Run, ["backbone.dim=16", *arguments])


def test_patterns_repeat_until_the_depth_is_filled():
    assert layer_rows(run("mixer=gtu*2,softmax", "backbone.depth=6")) == ["gtu", "gtu", "softmax"] * 2
    with pytest.raises(UserError, match="3 layers, which do not divide"):
        layer_rows(run("mixer=gtu*2,softmax", "backbone.depth=4"))
    with pytest.raises(UserError, match=r"'gtu\*x' must be NAME or NAME\*COUNT"):
        layer_rows(run("mixer=gtu*x", "backbone.depth=4"))


def test_a_hybrid_has_the_mixers_of_its_pattern(task):
    model = build_model(resolve(run("mixer=convolution,softmax"), causal=True), task)
    assert [type(mixer).__name__ for _, mixer in model_mixers(model)] == ["DepthwiseConvolution", "SoftmaxAttention"]


def test_positions_are_the_rows_unless_forced():
    assert resolve(run("mixer=softmax"), causal=True).backbone.position == "sinusoidal"
    assert resolve(run("mixer=gtu"), causal=True).backbone.position == "none"
    assert resolve(run("mixer=gtu", "backbone.position=learned"), causal=True).backbone.position == "learned"


def test_the_papers_block_is_the_rows():
    backbone = resolve(run("mixer=softmax", "block=paper"), causal=True).backbone
    assert (backbone.channel, backbone.width) == ("ffn", 64)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("mixer=sofmax", "did you mean softmax"),
        ("mixer=fnet", "fnet has no causal form"),
        ("mixer.decy=0.9", "gtu has no keyword 'decy'; did you mean decay"),
        ("mixer.decay=high", "decay='high' must be of type float"),
        ("mixer=gtu,softmax mixer.decay=0.9", "takes no keywords"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(argument: str, message: str):
    with pytest.raises(UserError, match=message):
        resolve(run(*argument.split()), causal=True)


def test_a_value_that_a_mixer_refuses_is_the_users(task):
    with pytest.raises(UserError, match="softmax: heads=3 must divide dim=16"):
        build_model(resolve(run("mixer=softmax", "mixer.heads=3"), causal=True), task)


def test_a_mixer_of_images_is_refused_where_there_are_none(task):
    with pytest.raises(UserError, match="gtu_2d mixes the places of a grid, and task=python has sequences"):
        build_model(resolve(run("mixer=gtu,gtu_2d", "backbone.depth=2"), causal=False), task)


@pytest.mark.parametrize("name", names("causal"))
def test_matched_parameters_agree_within_one_percent(name: str, task):
    reference = count_parameters(build_model(resolve(run("mixer=gtu", "backbone.dim=32"), causal=True), task))
    matched = match_parameters(resolve(run(f"mixer={name}", "backbone.dim=32"), causal=True), task, reference)
    assert abs(count_parameters(build_model(matched, task)) - reference) <= 0.01 * reference


def test_matching_without_a_channel_mixer_turns_the_rows_keyword(task):
    settings = ("backbone.dim=32", "backbone.channel=none")
    reference = count_parameters(build_model(resolve(run("mixer=gtu", *settings), causal=True), task))
    matched = match_parameters(resolve(run("mixer=s4d", *settings), causal=True), task, reference)
    assert matched.mixer["state"] != 64
    assert abs(count_parameters(build_model(matched, task)) - reference) <= 0.01 * reference
    with pytest.raises(UserError, match="nothing can be turned"):
        match_parameters(resolve(run("mixer=softmax", *settings), causal=True), task, reference)


def test_matching_says_when_it_cannot(task):
    with pytest.raises(UserError, match=r"match=parameters: gtu has .* parameters with backbone\.width=1"):
        match_parameters(resolve(run("mixer=gtu"), causal=True), task, 100)


def test_a_plan_pairs_every_mixer_with_every_seed(task):
    settings = load(Comparison, ["mixers=[convolution,softmax]", "seeds=2", "backbone.dim=16", "match=parameters"])
    runs = plan(settings, task)
    assert [folder_name(each) for each in runs] == ["convolution-0", "softmax-0", "convolution-1", "softmax-1"]
    sections = [{**vars(each), "backbone": None, "mixer": None, "label": None, "seed": None} for each in runs]
    assert all(section == sections[0] for section in sections)


@pytest.mark.parametrize(
    ("mixers", "message"),
    [
        ("[gtu,gtu]", "names gtu twice"),
        ("[{a/b: {row: gtu}}]", "the label 'a/b' names a folder"),
        ("[gtu,softmx]", "did you mean softmax"),
        ("[gtu,fnet]", "fnet has no causal form"),
        ("[gtu,{bad: {row: softmax, heads: 3}}]", "heads=3 must divide"),
    ],
)
def test_a_plan_refuses_what_cannot_be(mixers: str, message: str, task):
    with pytest.raises(UserError, match=message):
        plan(load(Comparison, [f"mixers={mixers}", "backbone.dim=16"]), task)


def test_optimizer_rules_bound_the_learning_rate(task):
    settings = run("mixer=s4d", "train.learning_rate=0.01")
    model = build_model(resolve(settings, causal=True), task)
    optimizer = make_optimizer(model, settings.train)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(groups) == len(list(model.parameters()))
    slow = groups[id(model.get_parameter("stack.blocks.0.mixer.frequency"))]
    fast = groups[id(model.get_parameter("stack.blocks.0.mixer.out.weight"))]
    embedding = groups[id(model.get_parameter("embedding.table.weight"))]
    assert (slow["lr"], slow["weight_decay"]) == (1e-3, 0.0)
    assert (fast["lr"], fast["weight_decay"]) == (0.01, settings.train.weight_decay)
    assert embedding["weight_decay"] == 0.0
    assert set_learning_rate(optimizer, settings.train, 0.5) == 0.005
    assert (slow["lr"], fast["lr"]) == (5e-4, 0.005)


def test_the_schedule_warms_up_and_follows_a_cosine():
    train = run("train.warmup=0.1", "train.final=0.2").train
    shares = [schedule(train, step, 100) for step in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[9] == shares[10] == 1.0
    assert shares[55] == pytest.approx(0.6)
    assert shares[100] == pytest.approx(0.2)
    assert all(math.isfinite(share) for share in shares)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosine", [1, 0.6, 0.2]),
        ("linear", [1, 0.6, 0.2]),
        ("inverse_sqrt", [1, (10 / 55) ** 0.5, 0.1**0.5]),
        ("constant", [1, 1, 1]),
    ],
)
def test_schedules_are_their_formulas(name: str, expected: list[float]):
    train = run("train.warmup=0.1", "train.final=0.2", f"train.schedule={name}").train
    assert [schedule(train, step, 100) for step in (10, 55, 100)] == pytest.approx(expected)
    assert [schedule(train, step, 100) for step in range(10)] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert schedule(train, 20, 100) != schedule(train, 21, 100) or name == "constant"


@pytest.mark.parametrize(
    ("arguments", "norm", "entry"),
    [
        (("train.clip=1.0",), 1.0, 0.8),
        (("train.clip=null",), 5.0, 4.0),
        (("train.clip=null", "train.clip_value=3.5"), math.hypot(3, 3.5), 3.5),
        (("train.clip=2.5", "train.clip_value=1.75"), math.hypot(1.5, 1.75), 1.75),
    ],
)
def test_gradients_are_clipped_by_norm_and_by_value(arguments: tuple[str, ...], norm: float, entry: float):
    model = torch.nn.Linear(2, 1, bias=False)
    model.weight.grad = torch.tensor([[3.0, -4.0]])
    assert clip_gradient(model, run(*arguments).train) == pytest.approx(5.0)
    assert model.weight.grad.norm() == pytest.approx(norm, rel=1e-5)
    assert model.weight.grad.abs().max() == pytest.approx(entry, rel=1e-5)


def test_the_optimizer_has_its_epsilon(task):
    settings = run("train.epsilon=1e-6")
    optimizer = make_optimizer(build_model(resolve(settings, causal=True), task), settings.train)
    assert all(group["eps"] == 1e-6 for group in optimizer.param_groups)


def test_a_batch_norm_is_refused_where_the_task_is_causal(task):
    for key in ("norm", "final_norm", "embedding_norm"):
        with pytest.raises(UserError, match=r"a batch norm mixes all tokens .* a causal task needs another norm"):
            build_model(resolve(run(f"backbone.{key}=batch"), causal=True), task)


def test_accumulated_parts_give_the_whole_batchs_gradient(task, tmp_path):
    from experiments.train import Trainer

    gradients = []
    for accumulate in (1, 3):
        settings = run("mixer=convolution", "train.batch=4", f"train.accumulate={accumulate}", "train.tokens=64")
        trainer = Trainer(resolve(settings, causal=True), task, tmp_path / str(accumulate))
        loss = trainer._backward(task.batch(4, seed=0, step=0))
        gradients.append((loss, trainer.model.get_parameter("embedding.table.weight").grad))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-6)
    torch.testing.assert_close(gradients[0][1], gradients[1][1])
