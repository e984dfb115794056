"""deit_tiny_mixer in timm's own hands: keywords, tools, and a training script as timm's users write them."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from timm.data import Mixup, create_loader, resolve_model_data_config
from timm.layers import set_fused_attn
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3

import experiments.timm_models  # noqa: F401  registers the models
from mixers import card, names
from mixers.registry import load_class

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_classes": 5}


def create(mixer: str = "gtu_2d", **options):
    return timm.create_model("deit_tiny_mixer", mixer=mixer, **{**SMALL, **options})


@pytest.mark.parametrize("name", names("bidirectional"))
def test_every_bidirectional_row_is_created_and_learns(name: str):
    torch.manual_seed(0)
    model = create(name, **({"mixer_keywords": {"heads": 2}} if "heads" in card(name).keywords else {}))
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(("name", "dim"), [("deit_tiny_mixer", 192), ("deit_small_mixer", 384)])
def test_the_models_have_deits_sizes_and_no_class_token(name: str, dim: int):
    with torch.device("meta"):
        model = timm.create_model(name, mixer="softmax")
        deit = timm.create_model(name.replace("mixer", "patch16_224"))
    assert (len(model.blocks), model.embed_dim, model.patch_embed.grid_size) == (12, dim, (14, 14))
    assert model.cls_token is None
    assert model.pos_embed.shape == (1, 196, dim)
    assert model.blocks[0].attn.mixer.head_dim == 64
    attention = dict(deit.blocks[0].named_parameters())
    for key, parameter in model.blocks[0].named_parameters():
        if not key.startswith("attn."):
            assert parameter.shape == attention[key].shape


def test_timms_keywords_are_honoured():
    model = create(
        global_pool="max", drop_rate=0.1, drop_path_rate=0.2, proj_drop_rate=0.3, pos_drop_rate=0.4, init_values=1e-5,
        pos_embed="none", norm_layer="rmsnorm", mlp_ratio=2.0, in_chans=1, img_size=(32, 16),
    )  # fmt: skip
    assert model(torch.randn(2, 1, 32, 16)).shape == (2, 5)
    assert model.global_pool == "max"
    assert (model.head_drop.p, model.pos_drop.p) == (0.1, 0.4)
    assert model.blocks[1].drop_path1.drop_prob == pytest.approx(0.2)
    assert model.blocks[0].attn.proj_drop.p == 0.3
    assert model.blocks[0].mlp.fc1.out_features == 48
    assert model.pos_embed is None
    assert type(model.blocks[0].norm1).__name__ == "RmsNorm"
    assert model.patch_embed.grid_size == (4, 2)
    assert create("softmax", num_heads=4).blocks[0].attn.mixer.heads == 4
    assert create("softmax").blocks[0].attn.mixer.heads == 3
    assert create("convolution", mixer_keywords={"width": 7}).blocks[0].attn.mixer.width == 7
    model.reset_classifier(7)
    assert model(torch.randn(2, 1, 32, 16)).shape == (2, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_token": True}, "class_token=True cannot be honoured by a mixer; it must be False"),
        ({"reg_tokens": 4}, "reg_tokens=4 cannot be honoured"),
        ({"global_pool": "token"}, "global_pool='token' needs a class token"),
        ({"qkv_bias": True}, "qkv_bias=True describes timm's attention, which a mixer replaces; leave it out"),
        ({"qk_norm": True}, "qk_norm=True cannot be honoured"),
        ({"attn_drop_rate": 0.1}, "attn_drop_rate=0.1 cannot be honoured"),
        ({"patch_drop_rate": 0.1}, "patch_drop_rate=0.1 cannot be honoured"),
        ({"dynamic_img_size": True}, "dynamic_img_size=True cannot be honoured"),
        ({"weight_init": "jax"}, "weight_init='jax' cannot be honoured"),
        ({"num_heads": 2}, "num_heads=2 cannot be honoured by gtu_2d; leave it out"),
        ({"pretrained": True}, "deit_tiny_mixer has no pretrained weights"),
        ({"mixer": "gtu2d"}, "did you mean gtu_2d"),
        ({"mixer": "gtu_state_space"}, "gtu_state_space has no bidirectional form"),
        ({"mixer_keywords": {"decy": 0.9}}, "gtu_2d has no keyword 'decy'; did you mean decay"),
    ],
)
def test_keywords_that_a_mixer_cannot_honour_get_one_clear_line(options: dict, message: str):
    with pytest.raises((ValueError, KeyError), match=message):
        create(**options)


def test_what_timms_training_script_passes_is_taken():
    """Its options' defaults; None is what timm leaves out."""
    model = create(
        pretrained=False, in_chans=3, drop_rate=0.0, drop_path_rate=None, drop_block_rate=None, global_pool=None,
        bn_momentum=None, bn_eps=None, scriptable=False, checkpoint_path="", weight_init="",
    )  # fmt: skip
    images = torch.randn(2, 3, 32, 32)
    plain = torch.autograd.grad(model(images).sum(), model.patch_embed.proj.weight)[0]
    model.set_grad_checkpointing(True)
    torch.testing.assert_close(torch.autograd.grad(model(images).sum(), model.patch_embed.proj.weight)[0], plain)
    again = create()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(images), model.eval()(images))


def test_masks_are_refused():
    with pytest.raises(ValueError, match="take no attn_mask"):
        create()(torch.randn(1, 3, 32, 32), is_causal=True)


def test_patterns_and_registries_of_ones_own(tmp_path: Path):
    model = create("gtu_2d,softmax", embed_dim=24)
    classes = [load_class(card(name).target) for name in ("gtu_2d", "softmax")]
    assert [type(block.attn.mixer) for block in model.blocks] == classes
    (tmp_path / "my.yaml").write_text(
        "mine: {class: attention.softmax.SoftmaxAttention, about: Mine, claims: [bidirectional]}\n"
    )
    assert create("mine", registry=str(tmp_path / "my.yaml"), num_heads=2).blocks[0].attn.mixer.heads == 2


def test_equal_seeds_give_equal_parameters_around_different_mixers():
    models = []
    for name in ("gtu_2d", "fnet"):
        torch.manual_seed(5)
        models.append(create(name).state_dict())
    shared = [key for key in models[1] if ".attn." not in key]
    assert len(shared) > 15
    assert all(torch.equal(models[0][key], models[1][key]) for key in shared)
    torch.manual_seed(6)
    assert not torch.equal(create("fnet").state_dict()["head.weight"], models[1]["head.weight"])


def test_timm_initialises_what_is_not_the_mixer():
    torch.manual_seed(0)
    model = create("softmax", embed_dim=96, mixer_keywords={"heads": 2})
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert model.blocks[1].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.blocks[1].mlp.fc1.bias.abs().max() == 0
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    mixer = model.blocks[1].attn.mixer
    assert mixer.out.weight.std().item() == pytest.approx(
        (1 / 96 / 3) ** 0.5, rel=0.1
    )  # torch's own, as the row has it


def test_rules_of_mixers_reach_timms_optimizers():
    model = create("s4d")
    free = model.no_weight_decay()
    rules = model.blocks[0].attn.mixer.optimizer_rules()
    named = {f"blocks.0.attn.mixer.{key}" for key, rule in rules.items() if rule.get("weight_decay") == 0}
    assert named
    assert named <= free
    decayed = next(
        group for group in param_groups_weight_decay(model, 0.05, no_weight_decay_list=free) if group["weight_decay"]
    )
    known = dict(model.named_parameters())
    assert not {id(known[name]) for name in named} & {id(parameter) for parameter in decayed["params"]}


class Stripes(torch.utils.data.Dataset):
    """Images with stripes that stand or lie."""

    transform = None

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int):
        image = (torch.arange(32) // 4 % 2 * 255.0).expand(3, 32, 32)
        noise = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(index)) * 40
        image = (image if index % 2 else image.mT) + noise
        from torchvision.transforms.functional import to_pil_image

        image = to_pil_image(image.clamp(0, 255).byte())
        return (self.transform(image) if self.transform else image), index % 2


@pytest.mark.parametrize("name", ["deit_tiny_mixer", "deit_tiny_patch16_224"])
def test_a_loop_of_timms_parts_trains_it_as_it_trains_timms_own(name: str):
    torch.manual_seed(0)
    set_fused_attn(False)
    special = {"mixer": "gtu_2d"} if "mixer" in name else {"num_heads": 3}
    model = timm.create_model(name, drop_path_rate=0.05, **{**SMALL, "num_classes": 2}, **special)
    config = resolve_model_data_config(model)
    loader = create_loader(
        Stripes(), (3, 32, 32), 16, is_training=True, no_aug=True, use_prefetcher=False, num_workers=0,
        mean=config["mean"], std=config["std"], device=torch.device("cpu"),
    )  # fmt: skip
    mixup = Mixup(mixup_alpha=0.1, cutmix_alpha=0.0, num_classes=2, label_smoothing=0.1)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=4e-3, weight_decay=0.05)
    scheduler = CosineLRScheduler(optimizer, t_initial=6, warmup_t=1, warmup_lr_init=1e-4)
    average = ModelEmaV3(model, decay=0.9, use_warmup=True)
    for epoch in range(6):
        model.train()
        for images, labels in loader:
            images, shares = mixup(images, labels)
            loss = SoftTargetCrossEntropy()(model(images), shares)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average.update(model, step=epoch * len(loader) + 1)
        scheduler.step(epoch + 1)
    right = [(average.module.eval()(images).argmax(1) == labels).float().mean().item() for images, labels in loader]
    assert sum(right) / len(right) > 0.9


SCRIPT = """
import timm, torch
import experiments.timm_models
model = timm.create_model("deit_tiny_mixer", mixer="gtu_2d", img_size=32, num_classes=3)
print(model(torch.zeros(1, 3, 32, 32)).shape)
print(timm.list_models("deit_*_mixer"))
"""


def test_a_script_in_another_folder_needs_one_import(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "torch.Size([1, 3])" in result.stdout
    assert "['deit_small_mixer', 'deit_tiny_mixer']" in result.stdout
