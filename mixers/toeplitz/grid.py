"""TNN over images: Toeplitz operators along the axes of a grid.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 4 (DeiT and Long Range Arena).
Shapes: B batch, N <= H W tokens row by row, H and W the grid, D dim.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from mixers.contract import fill_pads
from mixers.toeplitz.coefficients import EncodedCoefficients
from mixers.toeplitz.decay import make_decay
from mixers.toeplitz.mixer import Gated, OperatorMixer
from mixers.toeplitz.operator import Operator
from mixers.toeplitz.rpe import RelativePositionEncoder


class GridOperator(nn.Module):
    """One bidirectional operator along the rows and one along the columns; places after the last token are zeros."""

    def __init__(self, dim: int, *, grid: tuple[int, int], decay: float, rpe_width: int, rpe_layers: int, backend: str):
        super().__init__()
        if min(grid) < 1:
            raise ValueError(f"grid={tuple(grid)} must have at least one row and one column")
        self.grid = tuple(grid)

        def operator() -> Operator:
            rpe = RelativePositionEncoder(dim, width=rpe_width, layers=rpe_layers)
            coefficients = EncodedCoefficients(rpe, make_decay(dim, decay, False), causal=False)
            return Operator(coefficients, causal=False, backend=backend)

        self.along_row, self.along_column = operator(), operator()
        self.backend = self.along_row.backend

    def toeplitz(self, length: int) -> None:
        """None: over the tokens in a row, the matrix is Toeplitz within its blocks alone."""

    def arrange(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, D) -> (B, H, W, D).

        Raises ValueError for more tokens than the grid has places.
        """
        height, width = self.grid
        if x.shape[1] > height * width:
            raise ValueError(f"N={x.shape[1]} is beyond the {height} x {width} = {height * width} places of the grid")
        x = fill_pads(x, mask)
        return F.pad(x, (0, 0, 0, height * width - x.shape[1])).unflatten(1, self.grid)

    def rows(self, image: Tensor) -> Tensor:
        """The operator along W: (B, H, W, D) -> (B, H, W, D)."""
        return self.along_row(image.flatten(0, 1)).unflatten(0, image.shape[:2])

    def columns(self, image: Tensor) -> Tensor:
        """The operator along H: (B, H, W, D) -> (B, H, W, D)."""
        turned = image.transpose(1, 2)
        return self.along_column(turned.flatten(0, 1)).unflatten(0, turned.shape[:2]).transpose(1, 2)


class SumOfAxes(GridOperator):
    """Along the rows plus along the columns, as in the authors' image classifier."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        image = self.arrange(x, mask)
        return (self.rows(image) + self.columns(image)).flatten(1, 2)[:, : x.shape[1]]


class ProductOfAxes(GridOperator):
    """Rows of columns plus columns of rows, as in the authors' Long Range Arena code.

    The two orders are equal, since operators along different axes commute; one is computed and doubled.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return 2 * self.rows(self.columns(self.arrange(x, mask))).flatten(1, 2)[:, : x.shape[1]]


class GridGatedToeplitzUnit(OperatorMixer):
    """The gated unit over a grid: y = W_o (u * (T_row v + T_column v)), u and v as in GatedToeplitzUnit."""

    def __init__(
        self,
        dim: int,
        *,
        grid: tuple[int, int],
        expand: float = 3.0,
        decay: float = 0.9,
        rpe_width: int = 48,
        rpe_layers: int = 1,
        backend: str = "auto",
    ):
        gated, form = Gated(dim, expand=expand), {"decay": decay, "rpe_width": rpe_width, "rpe_layers": rpe_layers}
        super().__init__(gated, SumOfAxes(gated.inner, grid=grid, backend=backend, **form))


class ProductGatedToeplitzUnit(OperatorMixer):
    """The gated unit over a grid: y = W_o (u * 2 T_row T_column v), u and v as in GatedToeplitzUnit."""

    def __init__(
        self,
        dim: int,
        *,
        grid: tuple[int, int],
        expand: float = 3.0,
        decay: float = 0.9,
        rpe_width: int = 48,
        rpe_layers: int = 1,
        backend: str = "auto",
    ):
        gated, form = Gated(dim, expand=expand), {"decay": decay, "rpe_width": rpe_width, "rpe_layers": rpe_layers}
        super().__init__(gated, ProductOfAxes(gated.inner, grid=grid, backend=backend, **form))
