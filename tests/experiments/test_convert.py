"""A trained TNN becomes a state space: exactly, or by few exponentials; and its pictures."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from experiments import show
from experiments.coefficients import coefficients
from experiments.config import Run, load
from experiments.convert import convert
from experiments.errors import UserError
from experiments.generate import generate
from experiments.single import train_one
from experiments.train import load_model
from mixers.contract import state_tensors

QUIET = Console(quiet=True)
LENGTH = 32


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Finished runs of gtu and softmax on a little text."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "words.txt").write_text("".join(f"line {n}: the square is {n * n}\n" for n in range(2000)))
    shared = ["task=text", f"data.path={folder / 'words.txt'}", f"data.length={LENGTH}", "data.validation_bytes=300"]
    shared += ["data.test_bytes=1500", "backbone.dim=16", "train.tokens=4096", "train.validations=1", "train.threads=1"]
    for mixer in ("gtu", "softmax"):
        train_one(load(Run, [*shared, f"mixer={mixer}", f"out={folder / mixer}", "train.device=cpu"]), QUIET)
    return folder


@pytest.fixture(scope="module")
def converted(runs: Path) -> Path:
    """The gtu run, exact and with 8 exponentials a channel."""
    convert(runs / "gtu", None, None, QUIET)
    convert(runs / "gtu", 8, None, QUIET)
    return runs


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize(("name", "error", "bits"), [("gtu-exact", 1e-4, 1e-3), ("gtu-order8", 1e-2, 1e-2)])
def test_the_converted_run_computes_what_the_trained_one_does(converted: Path, name: str, error: float, bits: float):
    errors = result(converted / name)["converted"]["relative_errors"]
    assert len(errors) == 2
    assert max(errors) < error
    before, after = result(converted / "gtu")["bits_per_byte"], result(converted / name)["bits_per_byte"]
    assert abs(after - before) < bits
    _, task, model = load_model(converted / "gtu")
    _, _, other = load_model(converted / name)
    tokens = task.sample(2, LENGTH)
    with torch.no_grad():
        torch.testing.assert_close(other(tokens), model(tokens), rtol=0, atol=50 * error)


@pytest.mark.parametrize("name", ["gtu-exact", "gtu-order8"])
def test_it_decodes_what_it_computes_with_a_constant_state(converted: Path, name: str):
    _, task, model = load_model(converted / name)
    tokens = task.sample(1, LENGTH)
    with torch.no_grad():
        expected = model(tokens)
        _, state = model.prefill(tokens[:, :5])
        size = sum(tensor.numel() for tensor in state_tensors(state))
        for place in range(5, LENGTH):
            logits, state = model.step(tokens[:, place], state)
            torch.testing.assert_close(logits, expected[:, place], rtol=0, atol=1e-3)
            assert sum(tensor.numel() for tensor in state_tensors(state)) == size
    assert result(converted / name)["state_bytes"] == 2 * 3 * 16 * 8 * (LENGTH // 2 if name == "gtu-exact" else 8)


def test_a_converted_run_generates(converted: Path):
    options = {"prompt": "line", "tokens": 5, "temperature": 0.0, "top_k": None, "top_p": None, "stop": None, "seed": 0}
    trained, exact = (generate(converted / name, **options) for name in ("gtu", "gtu-exact"))
    assert exact == trained
    assert exact.startswith("line")


def test_what_cannot_be_converted_is_refused(runs: Path, tmp_path: Path):
    with pytest.raises(UserError, match="is a causal run of softmax; convert takes causal runs of gtu or gtu_free"):
        convert(runs / "softmax", 8, None, QUIET)
    with pytest.raises(UserError, match="holds no run"):
        convert(tmp_path, 8, None, QUIET)
    with pytest.raises(UserError, match="holds other work"):
        convert(runs / "gtu", 8, runs / "softmax", QUIET)


def test_show_draws_a_run_with_toeplitz_matrices_and_no_other(runs: Path):
    for name in ("gtu", "softmax"):
        show.folder(runs / name, QUIET)
    assert (runs / "gtu" / "toeplitz.png").read_bytes().startswith(b"\x89PNG")
    assert not (runs / "softmax" / "toeplitz.png").exists()


def test_the_kept_coefficients_are_those_of_the_model(runs: Path):
    _, task, model = load_model(runs / "gtu")
    kept = coefficients(model, LENGTH, causal=task.causal)
    assert list(kept) == ["stack.blocks.0.mixer", "stack.blocks.1.mixer"]
    layer, source = kept["stack.blocks.0.mixer"], model.get_submodule("stack.blocks.0.mixer.operator.coefficients")
    sizes = source(16 * LENGTH).abs().mean(1)
    assert layer["matrix_lags"] == list(range(LENGTH))
    assert layer["matrix"] == pytest.approx(sizes[:LENGTH].tolist(), rel=1e-3)
    assert layer["lags"][:64] == list(range(64))
    assert layer["lags"][-1] == 16 * LENGTH - 1
    assert layer["size"] == pytest.approx(sizes[layer["lags"]].tolist(), rel=1e-3)
    decay = 0.99 ** torch.tensor(layer["lags"], dtype=torch.float64)
    assert layer["size"] == pytest.approx((torch.tensor(layer["undecayed"]) * decay).tolist(), rel=1e-3)


def test_a_run_that_averaged_its_parameters_is_converted_as_it_was_evaluated(tmp_path: Path, runs: Path):
    settings = ["task=text", f"data.path={runs / 'words.txt'}", f"data.length={LENGTH}", "data.validation_bytes=300"]
    settings += [
        "data.test_bytes=600",
        "backbone.dim=16",
        "train.tokens=2048",
        "train.validations=1",
        "train.threads=1",
    ]
    train_one(
        load(Run, [*settings, "mixer=gtu", "train.ema=0.9", "train.device=cpu", f"out={tmp_path / 'run'}"]), QUIET
    )
    convert(tmp_path / "run", None, tmp_path / "new", QUIET)
    before, after = result(tmp_path / "run")["bits_per_byte"], result(tmp_path / "new")["bits_per_byte"]
    assert abs(after - before) < 1e-3
    _, task, model = load_model(tmp_path / "new")
    assert task.evaluate(model, test=True)["bits_per_byte"] == pytest.approx(after)
