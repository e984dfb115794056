"""TNN over images: Toeplitz operators along the axes of a grid.

Qin et al., ICLR 2023, https://arxiv.org/abs/2305.04749, section 4 (DeiT and Long Range Arena).
Shapes: B batch, N <= H W tokens row by row, H and W the grid, D dim.
"""

from torch import Tensor, nn

from mixers.ops.grid import off_grid, on_grid, require_grid
from mixers.toeplitz.coefficients import EncodedCoefficients
from mixers.toeplitz.decay import make_decay
from mixers.toeplitz.mixer import Gated, OperatorMixer
from mixers.toeplitz.operator import Operator
from mixers.toeplitz.rpe import RelativePositionEncoder


class GridOperator(nn.Module):
    """One bidirectional operator along the rows and one along the columns; places after the last token are zeros."""

    def __init__(self, dim: int, *, grid: tuple[int, int], decay: float, rpe_width: int, rpe_layers: int, backend: str):
        super().__init__()
        self.grid = require_grid(grid)

        def operator() -> Operator:
            rpe = RelativePositionEncoder(dim, width=rpe_width, layers=rpe_layers)
            coefficients = EncodedCoefficients(rpe, make_decay(dim, decay, False), causal=False)
            return Operator(coefficients, causal=False, backend=backend)

        self.along_row, self.along_column = operator(), operator()

    def backend_for(self, x: Tensor) -> str:
        """The backend that the rows run; the columns' is another where one of the two is very long."""
        return self.along_row.backend_for(on_grid(x, None, self.grid).flatten(0, 1))

    def toeplitz(self, length: int) -> None:
        """None: over the tokens in a row, the matrix is Toeplitz within its blocks alone."""

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
        image = on_grid(x, mask, self.grid)
        return off_grid(self.rows(image) + self.columns(image), x.shape[1])


class ProductOfAxes(GridOperator):
    """Rows of columns plus columns of rows, as in the authors' Long Range Arena code.

    The two orders are equal, since operators along different axes commute; one is computed and doubled.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return off_grid(2 * self.rows(self.columns(on_grid(x, mask, self.grid))), x.shape[1])


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
