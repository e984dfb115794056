"""The settings that come with mixerzoo: the paper's models have the paper's sizes, and the ablations can run."""

import pytest
import torch

from experiments.assemble import build_stack, count_parameters, resolve
from experiments.config import SETTINGS, Comparison, Run, load
from experiments.errors import UserError
from experiments.plan import plan
from mixers.toeplitz.decay import FixedDecay
from tasks.byte_model import ByteModel

PAPER = sorted(path.name for path in (SETTINGS / "paper").glob("*.yaml"))
ABLATIONS = sorted(path.name for path in (SETTINGS / "ablations").glob("*.yaml") if ".registry" not in path.name)
TASK = ByteModel(
    {name: [b"some text to read " * 200] for name in ("train", "validation", "test")},
    length=32,
    validation_bytes=400,
    test_bytes=400,
    data_note="",
)


def stack(name: str, *, causal: bool, length: int, grid: tuple[int, int] | None = None):
    """The stack of one of the paper's models, on no device: its shapes alone."""
    run = resolve(load(Run, [f"config=paper/{name}"]), causal)
    with torch.device("meta"):
        return run, build_stack(run, causal=causal, length=length, grid=grid)


def test_the_language_model_has_the_papers_parameters():
    run, model = stack("language_model.yaml", causal=True, length=512)
    embedding = 50264 * run.backbone.dim  # shared with the head
    constants = sum(module.rate.numel() for module in model.modules() if isinstance(module, FixedDecay))
    assert count_parameters(model) + embedding == 48_666_624
    assert constants == 10_752
    assert count_parameters(model) + embedding + constants == 48_677_376


def test_the_masked_language_model_has_the_papers_layers():
    _, model = stack("roberta.yaml", causal=False, length=512)
    assert round(count_parameters(model) / 1e6, 1) == 87.1


@pytest.mark.parametrize(("size", "millions"), [("tiny", 6.41), ("small", 23.37)])
def test_the_image_models_have_the_papers_parameters(size: str, millions: float):
    run, model = stack(f"deit_{size}.yaml", causal=False, length=196, grid=(14, 14))
    patches, head = 768 * run.backbone.dim + run.backbone.dim, 1000 * run.backbone.dim + 1000
    assert round((count_parameters(model) + patches + head) / 1e6, 2) == millions


@pytest.mark.parametrize("name", PAPER)
def test_every_model_of_the_paper_runs(name: str):
    run = resolve(load(Run, [f"config=paper/{name}", "backbone.depth=2"]), causal=name == "language_model.yaml")
    model = build_stack(run, causal=name == "language_model.yaml", length=16, grid=(4, 4))
    x = torch.randn(2, 16, run.backbone.dim)
    assert torch.isfinite(model(x)).all()


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_can_be_planned_and_built(name: str):
    settings = load(Comparison, [f"config=ablations/{name}", "data.length=32", "backbone.dim=16", "seeds=1"])
    runs = plan(settings, TASK)
    assert len(runs) >= 2
    sizes = [count_parameters(build_stack(run, causal=True, length=32, grid=None)) for run in runs]
    if settings.match == "parameters":
        assert max(sizes) <= 1.02 * min(sizes)


def test_learned_and_fixed_decays_are_both_in_the_ablation():
    labels = [next(iter(entry)) for entry in load(Comparison, ["config=ablations/decay.yaml"]).mixers]
    assert labels == ["decay_0.99", "decay_0.9", "decay_0.95", "decay_0.999", "no_decay", "learned"]


def test_a_file_of_the_users_stands_before_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations" / "decay.yaml").write_text("seeds: 7\n")
    assert load(Comparison, ["config=ablations/decay.yaml"]).seeds == 7


def test_an_unknown_file_is_one_clear_line():
    with pytest.raises(UserError, match=r"config=ablations/deca.yaml is no file.*did you mean ablations/decay.yaml"):
        load(Comparison, ["config=ablations/deca.yaml"])


def test_the_final_norm_may_differ_from_the_others():
    run = resolve(load(Run, ["mixer=convolution", "backbone.final_norm=layer", "backbone.dim=8"]), True)
    model = build_stack(run, causal=True, length=8, grid=None)
    assert isinstance(model.norm, torch.nn.LayerNorm)
    assert isinstance(model.blocks[0].norms[0], torch.nn.RMSNorm)
