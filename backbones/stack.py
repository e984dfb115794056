"""A stack of blocks, each a token mixer and a channel mixer with residuals.

Shapes: B batch, N length, D dim.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

from torch import Tensor, nn

from backbones.channel import CHANNELS, NORMS, POOLINGS, POSITIONS, BatchNorm, normalise
from backbones.seeding import seeded

MakeMixer = Callable[[int, int, nn.ParameterDict], nn.Module]
"""(layer index, depth, parameters shared by all layers) -> a token mixer."""


class Block(nn.Module):
    """x + mixer(norm(x)), then x + channel(norm(x)); or, post-norm, norm(x + mixer(x)), norm(x + channel(x))."""

    def __init__(
        self,
        mixer: nn.Module,
        channel: nn.Module,
        norms: list[nn.Module],
        *,
        prenorm: bool,
        dropout: float,
        drop: float,
    ):
        from timm.layers import DropPath

        super().__init__()
        self.mixer: Any = mixer  # a Mixer, which backbones do not import
        self.channel, self.norms = channel, nn.ModuleList(norms)
        self.prenorm = prenorm
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop)

    def _residual(
        self, x: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor], mask: Tensor | None = None
    ) -> Tensor:
        if self.prenorm:
            return x + self.drop_path(self.dropout(branch(normalise(norm, x, mask))))
        return normalise(norm, x + self.drop_path(self.dropout(branch(x))), mask)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self._residual(x, self.norms[0], lambda inner: self.mixer(inner, mask), mask)
        return self._residual(x, self.norms[1], self.channel, mask)

    def prefill(self, x: Tensor) -> tuple[Tensor, Any]:
        """forward(x), and the mixer's state after it."""
        return self._with_state(x, self.mixer.prefill)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One token (B, D)."""
        return self._with_state(x, lambda inner: self.mixer.step(inner, state))

    def _with_state(self, x: Tensor, mix: Callable[[Tensor], tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
        states = []

        def branch(inner: Tensor) -> Tensor:
            y, state = mix(inner)
            states.append(state)
            return y

        x = self._residual(x, self.norms[0], branch)
        return self._residual(x, self.norms[1], self.channel), states[0]


class Stack(nn.Module):
    """(B, N, D) -> (B, N, D): positions, `depth` blocks, and a final norm where the blocks are pre-norm.

    make_mixer builds the mixer of a layer; the stack knows no mixer by name. `width` is the channel mixers' inner
    width, `length` the largest N of learned positions, `final_norm` that of the blocks unless given, `embedding_norm`
    one between positions and blocks. `embedding_std`, `pooling` and `head_width` are for the model around the stack,
    which has the embedding and the head. Every part is built under its own seed.
    Raises ValueError for an unknown channel mixer, norm, position or pooling.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        make_mixer: MakeMixer,
        *,
        width: int,
        length: int,
        channel: str = "glu",
        norm: str = "rms",
        final_norm: str | None = None,
        embedding_norm: str | None = None,
        embedding_std: float | None = None,
        prenorm: bool = True,
        position: str = "none",
        pooling: str = "mean",
        head_width: int | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        seed: int = 0,
    ):
        super().__init__()
        self.dim, self.embedding_std, self.head_width = dim, embedding_std, head_width
        self.pool: Callable[[Tensor, Tensor], Tensor] = choose(POOLINGS, "pooling", pooling)
        self.shared = nn.ParameterDict()
        make_channel, make_norm = choose(CHANNELS, "channel", channel), choose(NORMS, "norm", norm)
        with seeded(seed, "position"):
            self.position = choose(POSITIONS, "position", position)(dim, length)
        self.embedding_norm = (
            nn.Identity() if embedding_norm is None else choose(NORMS, "embedding_norm", embedding_norm)(dim)
        )
        self.dropout = nn.Dropout(dropout)
        blocks: list[Block] = []
        for index in range(depth):
            with seeded(seed, f"blocks.{index}.mixer"):
                mixer = make_mixer(index, depth, self.shared)
            with seeded(seed, f"blocks.{index}.channel"):
                channel_mixer = make_channel(dim, width)
            drop = drop_path * index / max(depth - 1, 1)  # later blocks drop more, as in DeiT
            norms = [make_norm(dim), make_norm(dim)]
            blocks.append(Block(mixer, channel_mixer, norms, prenorm=prenorm, dropout=dropout, drop=drop))
        self.blocks = nn.ModuleList(blocks)
        make_final = make_norm if final_norm is None else choose(NORMS, "final_norm", final_norm)
        self.norm = make_final(dim) if prenorm else nn.Identity()

    def _enter(self, x: Tensor, start: int, mask: Tensor | None = None) -> Tensor:
        """What the blocks get of embedded tokens, the first of which stands at `start`."""
        return self.dropout(normalise(self.embedding_norm, self.position(x, start), mask))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self._enter(x, 0, mask)
        for block in self.blocks:
            x = block(x, mask)
        return normalise(self.norm, x, mask)

    def require_causal(self) -> None:
        """Raise ValueError where a norm lets tokens see later ones."""
        if any(isinstance(module, BatchNorm) for module in self.modules()):
            raise ValueError(
                "a batch norm mixes all tokens of a batch, later ones too; a causal task needs another norm"
            )

    def _layers(self) -> Iterator[Block]:
        return iter(cast("list[Block]", self.blocks))

    def init_state(self, batch_size: int) -> dict[str, Any]:
        """The state before the first token."""
        return {"position": 0, "layers": [block.mixer.init_state(batch_size) for block in self._layers()]}

    def prefill(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """forward(x), and the state after its N tokens."""
        layers, length = [], x.shape[1]
        x = self._enter(x, 0)
        for block in self._layers():
            x, state = block.prefill(x)
            layers.append(state)
        return self.norm(x), {"position": length, "layers": layers}

    def step(self, x: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """One token (B, D); consumes the state."""
        layers = []
        x = self._enter(x[:, None], state["position"])[:, 0]
        for block, before in zip(self._layers(), state["layers"], strict=True):
            x, after = block.step(x, before)
            layers.append(after)
        return self.norm(x), {"position": state["position"] + 1, "layers": layers}


def choose(table: dict[str, Any], what: str, name: str) -> Any:
    """The entry of a table.

    Raises ValueError for a name that is not in it.
    """
    if name not in table:
        raise ValueError(f"{what}={name!r} must be one of {', '.join(table)}")
    return table[name]
