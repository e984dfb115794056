"""deit_tiny_mixer and deit_small_mixer among timm's models: `import experiments.timm_models` adds them.

    timm.create_model("deit_tiny_mixer", mixer="gtu_2d", mixer_keywords={"decay": 0.9}, drop_path_rate=0.1)

They are DeiT (Touvron et al., 2021, https://arxiv.org/abs/2012.12877) at its tiny and small size with mixers in place
of attention, without class token, and with pooling over all patches. All of timm's keywords are taken by name; one that
a mixer cannot honour raises ValueError. timm's own deit_tiny_patch16_224 is what to compare them with. Learning rates
that mixers bound (optimizer_rules) and random features that they draw anew (redraw) are left to the script.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from backbones.vision_transformer import MixerVisionTransformer, require_honourable
from experiments.assemble import fill_pattern, keywords, mixer_factory
from mixers.registry import card, check_overrides, load_class, require_form

_CONFIG = {
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "fixed_input_size": True,
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "first_conv": "patch_embed.proj",
    "classifier": "head",
}
default_cfgs = generate_default_cfgs({"deit_tiny_mixer": _CONFIG, "deit_small_mixer": _CONFIG})  # timm looks for it


@register_model
def deit_tiny_mixer(pretrained: bool = False, *, mixer: str, **options: Any) -> MixerVisionTransformer:
    """DeiT-tiny around a mixer: 12 layers of width 192; 3 heads where the mixer has heads."""
    return _create("deit_tiny_mixer", pretrained, mixer, {"embed_dim": 192, "depth": 12, **options}, heads=3)


@register_model
def deit_small_mixer(pretrained: bool = False, *, mixer: str, **options: Any) -> MixerVisionTransformer:
    """DeiT-small around a mixer: 12 layers of width 384; 6 heads where the mixer has heads."""
    return _create("deit_small_mixer", pretrained, mixer, {"embed_dim": 384, "depth": 12, **options}, heads=6)


def _create(
    variant: str, pretrained: bool, mixer: str, options: dict[str, Any], *, heads: int
) -> MixerVisionTransformer:
    """The model; `mixer` is a row or a pattern of rows, such as gtu_2d*2,softmax."""
    if pretrained:
        raise ValueError(f"{variant} has no pretrained weights")
    overrides, registry = dict(options.pop("mixer_keywords", {})), options.pop("registry", None)
    rows = [card(name, registry=registry) for name in fill_pattern(mixer, options["depth"])]
    wanted = options.pop("num_heads", None)
    if "heads" not in overrides and all("heads" in keywords(row) for row in rows):
        overrides["heads"] = wanted or heads
    elif wanted is not None:
        raise ValueError(f"num_heads={wanted} cannot be honoured by {mixer}; leave it out")
    for row in {row.name: row for row in rows}.values():
        require_form(row, False)
        check_overrides(row, overrides, load_class(row.target))
    build = partial(_build, [row.name for row in rows], overrides, registry)
    return build_model_with_cfg(build, variant, pretrained, feature_cfg={"feature_cls": "getter"}, **options)


def _build(
    rows: list[str], overrides: dict[str, Any], registry: str | None, **timm_keywords: Any
) -> MixerVisionTransformer:
    """The model, its parts seeded by the next number of torch's generator."""
    require_honourable(timm_keywords)
    patch = to_2tuple(timm_keywords.get("patch_size", 16))
    size = to_2tuple(timm_keywords["img_size"])
    height, width = int(size[0]) // int(patch[0]), int(size[1]) // int(patch[1])
    make_mixer = mixer_factory(
        rows,
        timm_keywords["embed_dim"],
        causal=False,
        length=height * width,
        grid=(height, width),
        registry=registry,
        overrides=overrides,
    )
    seed = int(torch.randint(2**31, (), device="cpu"))
    return MixerVisionTransformer(make_mixer, seed=seed, **timm_keywords)
