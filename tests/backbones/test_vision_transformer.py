"""timm's VisionTransformer around mixers, described as a stack is."""

import copy

import pytest
import torch
from torch import nn

from backbones.channel import CHANNELS, NORMS, POSITIONS
from backbones.vision_transformer import MixerVisionTransformer, vision_transformer
from mixers import build, names
from mixers.contract import Layer


def model(name: str = "gtu_2d", **options) -> MixerVisionTransformer:
    def make_mixer(index: int, depth: int, shared: nn.ParameterDict):
        layer = Layer(index, depth, shared)
        return build(name, options.get("dim", 8), causal=False, length=16, grid=(4, 4), layer=layer)

    settings = {"dim": 8, "depth": 2, "image_size": 16, "patch": 4, "classes": 5, "width": 12, "length": 16, "seed": 0}
    settings |= {"channel": "glu", "norm": "rms", "final_norm": None, "prenorm": True, "position": "none"}
    settings |= {"dropout": 0.0, "drop_path": 0.0, **options}
    dim, depth = settings.pop("dim"), settings.pop("depth")
    return vision_transformer(dim, depth, make_mixer, **settings)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("channel", CHANNELS)
def test_every_part_of_a_stack_has_its_place(channel: str, norm: str, position: str):
    built = model(channel=channel, norm=norm, position=position)
    logits = built(torch.randn(2, 3, 16, 16))
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert type(built.fc_norm) is type(NORMS[norm](8))


@pytest.mark.parametrize("name", names("bidirectional"))
def test_the_model_is_its_embedding_its_stack_and_its_head(name: str):
    built = model(name, position="learned").double().eval()
    images = torch.randn(2, 3, 16, 16, dtype=torch.double)
    hidden = built.stack(built.embedding(images))
    assert hidden.shape == (2, 16, 8)
    torch.testing.assert_close(built(images), built.forward_head(hidden))
    torch.testing.assert_close(built(images), built.head(built.fc_norm(hidden.mean(1))))


def test_positions_tell_patches_apart():
    """Attention takes tokens as a set, so that rows in another order show only where there are positions."""
    images = torch.randn(1, 3, 16, 16)
    shuffled = images.unflatten(2, (4, 4)).flip(2).flatten(2, 3)
    for position, alike in (("none", True), ("learned", False), ("sinusoidal", False)):
        built = model("softmax", position=position).eval()
        assert torch.allclose(built(images), built(shuffled), atol=1e-5) is alike


def test_equal_seeds_give_equal_parameters_around_other_mixers_and_widths():
    one, other = model("gtu_2d").state_dict(), model("softmax", width=20).state_dict()
    shared = [key for key in one if key in other and ".attn." not in key and ".mlp." not in key]
    assert {"patch_embed.proj.weight", "head.weight"} <= set(shared)
    assert all(torch.equal(one[key], other[key]) for key in shared)
    assert not torch.equal(model(seed=1).state_dict()["head.weight"], one["head.weight"])
    mixers = [model("softmax", seed=seed, channel=channel).state_dict() for seed, channel in ((0, "glu"), (0, "none"))]
    assert all(torch.equal(mixers[0][key], mixers[1][key]) for key in mixers[0] if ".attn.mixer." in key)


def test_dropout_is_everywhere_a_stack_has_it():
    built = model(dropout=0.3, drop_path=0.2, depth=3)
    rates = [module.p for module in built.modules() if isinstance(module, nn.Dropout)]
    assert rates.count(0.3) == 1 + 2 * 3  # behind the positions, and behind both branches of every block
    assert [getattr(block.drop_path1, "drop_prob", 0.0) for block in built.blocks] == pytest.approx([0, 0.1, 0.2])


def test_a_final_norm_of_its_own():
    assert isinstance(model(final_norm="layer").fc_norm, nn.LayerNorm)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prenorm": False}, r"backbone\.prenorm=false: timm's VisionTransformer has its norms before"),
        ({"channel": "mlp"}, "channel='mlp' must be one of glu, ffn, none"),
        ({"norm": "group"}, "norm='group' must be one of rms, layer"),
        ({"position": "rope"}, "position='rope' must be one of none, sinusoidal, learned"),
    ],
)
def test_what_there_is_not_is_one_clear_line(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        model(**options)


def test_copies_are_whole():
    built = model("softmax", position="learned")
    images = torch.randn(1, 3, 16, 16)
    assert torch.equal(copy.deepcopy(built).eval()(images), built.eval()(images))


def test_what_layers_share_is_saved_once():
    def make_mixer(index: int, depth: int, shared: nn.ParameterDict):
        if "one" not in shared:
            shared["one"] = nn.Parameter(torch.ones(8))
        return build("fnet", 8, causal=False)

    built = MixerVisionTransformer(make_mixer, seed=0, img_size=16, patch_size=4, embed_dim=8, depth=2, num_classes=5)
    assert [key for key in built.state_dict() if "one" in key] == ["shared.one"]
