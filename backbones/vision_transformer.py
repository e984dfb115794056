"""timm's VisionTransformer with token mixers in place of its attention.

Every image model has the tokens of the patches alone, row by row: no class token, no distillation token, and pooling
over all of them. Shapes: B batch, C channels, H and W pixels, N patches, D dim.
"""

from typing import Any

from timm.models.vision_transformer import VisionTransformer, init_weights_vit_timm
from torch import Tensor, nn

from backbones.channel import CHANNELS, NORMS, POSITIONS
from backbones.seeding import seeded
from backbones.stack import MakeMixer, choose

ONLY = {
    "class_token": False,
    "reg_tokens": 0,
    "patch_drop_rate": 0.0,
    "dynamic_img_size": False,
    "dynamic_img_pad": False,
    "qk_norm": False,
    "scale_attn_norm": False,
    "attn_drop_rate": 0.0,
    "fix_init": False,
    "weight_init": "",
}
"""timm's keywords that must keep this value: a mixer needs the whole grid of patches and nothing else, and has no
attention matrix to normalise or drop from."""

FOREIGN = ("num_heads", "qkv_bias", "proj_bias", "attn_layer", "block_fn")
"""timm's keywords that describe its own attention, which is not there."""


class MixerAttention(nn.Module):
    """A mixer where timm's blocks call their attention, and timm's dropout behind it."""

    def __init__(self, mixer: nn.Module, dropout: float):
        super().__init__()
        self.mixer, self.proj_drop = mixer, nn.Dropout(dropout)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Mix x (B, N, D).

        Raises ValueError for a mask: images are not padded, and mixers know no others.
        """
        if attn_mask is not None or is_causal:
            raise ValueError("mixers over images take no attn_mask and no is_causal")
        return self.proj_drop(self.mixer(x))


class MixerVisionTransformer(VisionTransformer):
    """images (B, C, H, W) -> logits (B, classes): timm's VisionTransformer around mixers.

    make_mixer builds the mixer of a layer. `position` stands in place of timm's pos_embed where it is given; all other
    keywords are timm's own. Every part is initialised as timm does, under its own seed; mixers as they themselves do.
    Raises ValueError for keywords of timm's that a mixer cannot honour.
    """

    def __init__(self, make_mixer: MakeMixer, *, seed: int, position: nn.Module | None = None, **timm_keywords: Any):
        require_honourable(timm_keywords)
        settings = {"global_pool": "avg", **timm_keywords, "class_token": False, "weight_init": "skip", "num_heads": 1}
        if position is not None:
            settings["pos_embed"] = "none"
        super().__init__(**settings)
        if self.pos_embed is not None:
            with seeded(seed, "pos_embed"):
                nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for name, module in reversed(list(self.named_modules())):  # children before what they are part of, as in timm
            if name:
                with seeded(seed, name):
                    init_weights_vit_timm(module, name)
        self.position = position
        self.shared = nn.ParameterDict()
        device, dtype = timm_keywords.get("device"), timm_keywords.get("dtype")
        for index, block in enumerate(self.blocks):
            with seeded(seed, f"blocks.{index}.mixer"):
                mixer = make_mixer(index, len(self.blocks), self.shared)
            attention = MixerAttention(mixer, timm_keywords.get("proj_drop_rate", 0.0))
            block.attn = attention.to(device=device, dtype=dtype)  # pyright: ignore[reportAttributeAccessIssue]
        self.shared.to(device=device, dtype=dtype)

    def _pos_embed(self, x: Tensor) -> Tensor:
        return super()._pos_embed(x) if self.position is None else self.pos_drop(self.position(x, 0))

    def no_weight_decay(self) -> set[str]:
        """timm's own, the positions, and what the mixers' rules free of decay, for timm's optimizers."""
        free = {*super().no_weight_decay(), "position.embedding"}
        for name, module in self.named_modules():
            if isinstance(module, MixerAttention):
                mixer: Any = module.mixer
                rules = mixer.optimizer_rules().items()
                free |= {f"{name}.mixer.{key}" for key, rule in rules if rule.get("weight_decay") == 0}
        return free

    @property
    def embedding(self) -> nn.Module:
        """images -> patches (B, N, D), without positions."""
        return self.patch_embed

    def stack(self, x: Tensor) -> Tensor:
        """Patches (B, N, D) -> what is pooled (B, N, D)."""
        return self.norm(self.blocks(self.norm_pre(self._pos_embed(x))))


def require_honourable(timm_keywords: dict[str, Any]) -> None:
    """Raise ValueError for a keyword of timm's that a mixer cannot honour."""
    for key, value in timm_keywords.items():
        if key in FOREIGN:
            raise ValueError(f"{key}={value!r} describes timm's attention, which a mixer replaces; leave it out")
        if key in ONLY and value != ONLY[key]:
            raise ValueError(f"{key}={value!r} cannot be honoured by a mixer; it must be {ONLY[key]!r}")
    if timm_keywords.get("global_pool") == "token":
        raise ValueError("global_pool='token' needs a class token, which mixers do not have; use 'avg'")


def vision_transformer(
    dim: int,
    depth: int,
    make_mixer: MakeMixer,
    *,
    image_size: int,
    patch: int,
    classes: int,
    width: int,
    length: int,
    channel: str,
    norm: str,
    final_norm: str | None,
    prenorm: bool,
    position: str,
    dropout: float,
    drop_path: float,
    seed: int,
    embedding_norm: str | None = None,
    embedding_std: float | None = None,
    pooling: str = "mean",
    head_width: int | None = None,
) -> MixerVisionTransformer:
    """A MixerVisionTransformer described as a Stack is, for RGB images of image_size x image_size pixels.

    The final norm stands behind the pooling, where timm has it. Raises ValueError for an unknown channel mixer, norm or
    position, and for what timm's VisionTransformer does not have.
    """
    if not prenorm:
        raise ValueError("backbone.prenorm=false: timm's VisionTransformer has its norms before the branches alone")
    if (pooling, embedding_std, head_width) != ("mean", None, None):
        raise ValueError(
            "timm's VisionTransformer has its own pooling, embedding and head: "
            "leave out backbone.pooling, backbone.embedding_std and backbone.head_width"
        )
    make_channel, make_norm = choose(CHANNELS, "channel", channel), choose(NORMS, "norm", norm)
    with seeded(seed, "position"):
        positions = choose(POSITIONS, "position", position)(dim, length)
    model = MixerVisionTransformer(
        make_mixer,
        seed=seed,
        position=positions,
        img_size=image_size,
        patch_size=patch,
        num_classes=classes,
        embed_dim=dim,
        depth=depth,
        norm_layer=lambda size, **place: make_norm(size),
        mlp_layer=lambda in_features, **timm: nn.Sequential(make_channel(in_features, width), nn.Dropout(dropout)),
        pos_drop_rate=dropout,
        proj_drop_rate=dropout,
        drop_path_rate=drop_path,
    )
    if embedding_norm is not None:
        model.norm_pre = choose(NORMS, "embedding_norm", embedding_norm)(dim)
    if final_norm is not None:
        model.fc_norm = choose(NORMS, "final_norm", final_norm)(dim)
    return model
