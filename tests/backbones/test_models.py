"""The models around the mixers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backbones.causal_lm import CausalLM, sample
from backbones.channel import CHANNELS, NORMS, POOLINGS, POSITIONS, BatchNorm, ScaleNorm
from backbones.embedding import PixelEmbedding, TokenEmbedding
from backbones.encoder import DualEncoder, Encoder
from backbones.stack import Stack
from mixers import build, names


def stack(name: str, *, causal: bool = True, **options) -> Stack:
    options = {"width": 12, "length": 24, **options}
    sizes = {"length": options["length"], "grid": (4, options["length"] // 4)}
    return Stack(8, 2, lambda index, depth, shared: build(name, 8, causal=causal, **sizes), **options)


@pytest.mark.parametrize("name", names("step"))
@pytest.mark.parametrize("position", POSITIONS)
def test_decoding_is_the_parallel_form(name: str, position: str):
    model = CausalLM(stack(name, position=position), vocabulary=11).double().eval()
    tokens = torch.randint(0, 11, (2, 14))
    logits = model(tokens)
    start, state = model.prefill(tokens[:, :5])
    torch.testing.assert_close(start, logits[:, :5])
    for place in range(5, 14):
        step, state = model.step(tokens[:, place], state)
        torch.testing.assert_close(step, logits[:, place])


@pytest.mark.parametrize("prenorm", [True, False])
@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "batch"])
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_language_model_does_not_see_the_future(channel: str, norm: str, prenorm: bool):
    model = CausalLM(stack("gtu", channel=channel, norm=norm, prenorm=prenorm), vocabulary=11).double().eval()
    tokens = torch.randint(0, 11, (1, 12))
    other = tokens.clone()
    other[:, 6:] = (other[:, 6:] + 1) % 11
    torch.testing.assert_close(model(other)[:, :6], model(tokens)[:, :6])
    assert not torch.allclose(model(other)[:, 6:], model(tokens)[:, 6:])


@pytest.mark.parametrize("name", [name for name in names("padding") if name in names("bidirectional")])
def test_an_encoder_does_not_see_pads(name: str):
    model = Encoder(stack(name, causal=False, dropout=0.5), vocabulary=11, classes=3).double().eval()
    tokens = torch.randint(1, 11, (2, 9))
    padded = torch.cat([tokens, torch.zeros(2, 6, dtype=torch.long)], dim=1)
    torch.testing.assert_close(model(padded, padded != 0), model(tokens))
    assert model(tokens).shape == (2, 3)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("pooling", [pooling for pooling in POOLINGS if pooling != "padded_mean"])
def test_no_norm_or_pooling_sees_pads(norm: str, pooling: str):
    options = {"norm": norm, "embedding_norm": norm, "pooling": pooling, "head_width": 5}
    model = Encoder(stack("gtu", causal=False, **options), vocabulary=11, classes=3).double().train()
    tokens = torch.randint(1, 11, (2, 9))
    padded = torch.cat([tokens, torch.zeros(2, 6, dtype=torch.long)], dim=1)
    torch.testing.assert_close(model(padded, padded != 0), model(tokens))


def test_batch_norm_is_over_real_tokens_alone():
    norm, x = BatchNorm(3).train(), torch.randn(4, 6, 3)
    mask = torch.arange(6) < torch.tensor([6, 1, 3, 5])[:, None]
    x[~mask] = torch.nan
    y = norm(x, mask)
    real = (x[mask] - x[mask].mean(0)) / (x[mask].var(0, unbiased=False) + norm.norm.eps).sqrt()
    torch.testing.assert_close(y[mask], real)
    assert (y[~mask] == 0).all()
    torch.testing.assert_close(norm.norm.running_mean, 0.1 * x[mask].mean(0))
    norm.eval()
    torch.testing.assert_close(norm(x, mask)[1:2, :1], norm(x[1:2, :1]))


def test_scale_norm_gives_every_token_one_length():
    norm = ScaleNorm(9)
    torch.testing.assert_close(norm(torch.randn(2, 5, 9)).norm(dim=-1), torch.full((2, 5), 3.0))
    assert sum(parameter.numel() for parameter in norm.parameters()) == 1
    assert torch.isfinite(norm(torch.zeros(1, 1, 9))).all()


def test_poolings_are_their_definitions():
    hidden = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    pooled = {name: pool(hidden, mask) for name, pool in POOLINGS.items()}
    torch.testing.assert_close(pooled["mean"], torch.stack([hidden[0, :3].mean(0), hidden[1, 0]]))
    torch.testing.assert_close(pooled["padded_mean"], torch.stack([hidden[0, :3].sum(0), hidden[1, 0]]) / 4)
    assert torch.equal(pooled["first"], hidden[:, 0])
    assert torch.equal(pooled["last"], torch.stack([hidden[0, 2], hidden[1, 0]]))


def test_a_dual_encoder_sees_both_and_their_product_and_difference():
    model = DualEncoder(stack("gtu", causal=False), vocabulary=11, classes=2).eval()
    pairs = torch.randint(0, 11, (3, 2, 9))
    a, b = (model.pooled(pairs[:, side], None) for side in (0, 1))
    expected = model.head(torch.cat([a, b, a * b, a - b], dim=-1))
    torch.testing.assert_close(model(pairs), expected)
    mask = torch.ones_like(pairs, dtype=torch.bool)
    torch.testing.assert_close(model(pairs, mask), expected)


def test_embeddings_have_the_spread_that_is_asked_for():
    tokens = torch.arange(500)
    assert TokenEmbedding(500, 64, seed=0)(tokens).std().item() == pytest.approx(1, rel=0.05)
    assert TokenEmbedding(500, 64, std=0.02, seed=0)(tokens).std().item() == pytest.approx(0.02, rel=0.05)


def test_pixels_enter_between_minus_one_and_one():
    embedding = PixelEmbedding(4, seed=0)
    black, white = embedding(torch.tensor([[0, 255]]))[0]
    torch.testing.assert_close((black + white) / 2, embedding.linear.bias)
    torch.testing.assert_close((white - black) / 2, embedding.linear.weight[:, 0])


def test_equal_seeds_give_equal_shared_parameters():
    first, second = (CausalLM(stack(name, seed=3), vocabulary=11, seed=3) for name in ("gtu", "softmax"))
    other = CausalLM(stack("gtu", seed=4), vocabulary=11, seed=4)
    shared = [name for name, _ in first.named_parameters() if ".mixer." not in name]
    assert "embedding.table.weight" in shared
    assert any(".channel." in name for name in shared)
    for name in shared:
        assert torch.equal(first.get_parameter(name), second.get_parameter(name))
    assert not torch.equal(first.embedding.table.weight, other.embedding.table.weight)


def test_layers_are_drawn_apart_and_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    blocks = stack("softmax").blocks
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(blocks[0].mixer.qkv.weight, blocks[1].mixer.qkv.weight)


def test_post_norm_ends_in_the_norm():
    hidden = stack("gtu", prenorm=False)(torch.randn(2, 5, 8))
    torch.testing.assert_close(hidden.square().mean(-1), torch.ones(2, 5), rtol=1e-4, atol=1e-4)


def test_dropout_falls_in_training_alone():
    model = stack("convolution", dropout=0.5)
    x = torch.randn(1, 6, 8)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_learned_positions_end_at_their_length():
    with pytest.raises(ValueError, match="learned positions end at 24, the input at 25"):
        stack("softmax", position="learned")(torch.zeros(1, 25, 8))


@pytest.mark.parametrize(
    ("key", "value"), [("channel", "mlp"), ("norm", "group"), ("position", "rotary"), ("pooling", "max")]
)
def test_unknown_parts_are_refused(key: str, value: str):
    with pytest.raises(ValueError, match=f"{key}='{value}' must be one of"):
        stack("softmax", **{key: value})


def test_sinusoids_are_the_papers():
    x = POSITIONS["sinusoidal"](6, 0)(torch.zeros(1, 4, 6, dtype=torch.float64), 3)
    assert x[0, 2, 4].item() == pytest.approx(torch.tensor(5 / 10000 ** (4 / 6)).sin().item(), abs=1e-6)
    assert x[0, 2, 5].item() == pytest.approx(torch.tensor(5 / 10000 ** (4 / 6)).cos().item(), abs=1e-6)


@given(st.integers(0, 999), st.integers(1, 12), st.floats(0.05, 1.0))
def test_sampling_stays_among_the_likeliest(seed: int, top_k: int, top_p: float):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(10, generator=generator)
    ranks = logits.argsort(descending=True).tolist()
    assert ranks.index(int(sample(logits, top_k=top_k, generator=generator))) < top_k
    mass = logits.softmax(-1)[ranks].cumsum(0)
    kept = int((mass - logits.softmax(-1)[ranks] < top_p).sum())
    assert ranks.index(int(sample(logits, top_p=top_p, generator=generator))) < kept
    assert int(sample(logits, temperature=0)) == ranks[0]


def test_generation_follows_the_model_and_stops():
    model = CausalLM(stack("linear_elu"), vocabulary=5).eval()
    prompt = torch.tensor([1, 2])
    output = model.generate(prompt, 10, temperature=0)
    assert output[:2].tolist() == [1, 2]
    assert len(output) == 12
    for place in range(2, 12):
        assert output[place] == model(output[None, :place])[0, -1].argmax()
    stop = output[3:5].tolist()
    stopped = model.generate(prompt, 10, temperature=0, stop=stop).tolist()
    assert stopped[-2:] == stop
    assert stopped == output[: len(stopped)].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_k": 0}, "top_k=0 must be at least 1"),
        ({"top_p": 0.0}, "top_p=0.0 must lie in"),
        ({"new_tokens": -1}, "new_tokens=-1"),
        ({"prompt": torch.tensor([], dtype=torch.long)}, "the prompt is empty"),
    ],
)
def test_generation_refuses_bad_values(options: dict, message: str):
    model = CausalLM(stack("convolution"), vocabulary=5)
    arguments = {"prompt": torch.tensor([1]), "new_tokens": 2, **options}
    with pytest.raises(ValueError, match=message):
        model.generate(arguments.pop("prompt"), arguments.pop("new_tokens"), **arguments)


def test_the_gated_linear_unit_is_timms():
    from timm.layers import GluMlp

    unit, x = CHANNELS["glu"](8, 12), torch.randn(2, 5, 8)
    timms = GluMlp(8, hidden_features=24, act_layer=torch.nn.SiLU, gate_last=False)
    timms.load_state_dict(unit.state_dict())
    torch.testing.assert_close(unit(x), timms(x))
