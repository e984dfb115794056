"""Pictures of Toeplitz coefficients: the matrix of every layer (as figure 3 of the TNN paper), and sizes by lag."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from experiments.files import replacing
from experiments.plots import COLOURS, STYLE, svg

Layers = dict[str, dict[str, Any]]
"""What experiments.coefficients found in one model."""


def matrices(found: dict[str, Layers]) -> str:
    """A row a model, a column a layer: the mean size of t[i - j] over channels, as a share of the matrix's largest."""
    depth = max(map(len, found.values()))
    figure = _figure(5.4, 0.4 + 5.0 / max(depth, 2) * len(found))
    with rc_context({**STYLE, "axes.grid": False}):
        grid = figure.subplots(len(found), depth, squeeze=False)
    for row, (label, layers) in zip(grid, found.items(), strict=True):
        _draw_matrices(row, layers, label)
    return svg(figure)


def by_lag(found: dict[str, Layers], length: int, colours: dict[str, str]) -> str:
    """The mean size of the coefficients by lag, a line a layer; dashed, what TNN's encoder gives without the decay."""
    figure = _figure(5.4, 3.6)
    _draw_by_lag(figure.subplots(), found, length, colours)
    return svg(figure)


def write_run(path: Path, label: str, layers: Layers, length: int, extrapolation: dict[str, float], unit: str) -> None:
    """One picture of a run: its matrices, its coefficients by lag, and its score at lengths beyond training."""
    depth = len(layers)
    figure = _figure(max(3.0 * depth, 9.0), 7.0)
    with rc_context({**STYLE, "axes.grid": False}):
        above, below = cast(Any, figure.subfigures(2, 1))
        _draw_matrices(above.subplots(1, depth, squeeze=False)[0], layers, label)
    with rc_context(STYLE):
        left, right = below.subplots(1, 2)
    _draw_by_lag(left, {label: layers}, length, {label: COLOURS[0]})
    lengths = sorted(map(int, extrapolation))
    right.plot(lengths, [extrapolation[str(n)] for n in lengths], "o-", color=COLOURS[0])
    right.set_xscale("log", base=2)
    right.set_xticks(lengths, [f"{n:,}" for n in lengths])
    right.minorticks_off()
    right.set_xlabel("length")
    right.set_ylabel(unit)
    right.set_title("the same text at other lengths" if lengths else "no measure of other lengths", fontsize=11)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=150)


def _figure(width: float, height: float) -> Figure:
    with rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def _draw_matrices(row: np.ndarray, layers: Layers, label: str) -> None:
    for index, (axes, layer) in enumerate(zip(row, layers.values(), strict=False)):
        size = dict(zip(layer["matrix_lags"], layer["matrix"], strict=True))
        tokens = max(size) + 1
        matrix = np.array([[size.get(i - j, 0.0) for j in range(tokens)] for i in range(tokens)])
        axes.imshow(matrix / max(matrix.max(), 1e-30), cmap="magma_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(f"{label}, layer {index + 1}", fontsize=10)
        axes.set_xticks([0, tokens - 1])
        axes.set_yticks([0, tokens - 1])
    row[0].set_xlabel("input token", fontsize=9)
    row[0].set_ylabel("output token", fontsize=9)
    for axes in row[len(layers) :]:
        axes.axis("off")


def _draw_by_lag(axes: Axes, found: dict[str, Layers], length: int, colours: dict[str, str]) -> None:
    sizes = []
    for label, layers in found.items():
        colour = colours[label]
        for number, layer in enumerate(layers.values()):
            lags, size = np.array(layer["lags"]), np.array(layer["size"])
            sizes += size.tolist()
            axes.plot(1 + lags, size, color=colour, alpha=0.9, label=None if number else label)
            if layer["undecayed"]:
                axes.plot(1 + lags, layer["undecayed"], color=colour, linestyle="--", linewidth=0.9, alpha=0.7)
    largest = max(sizes)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(max(0.3 * min(size for size in sizes if size), 1e-8 * largest), 5 * largest)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.axvline(length, color="#888888", linestyle=":", linewidth=1.2)
    axes.text(length, 2.5 * largest, " training length", va="top", fontsize=9, color="#555555")
    axes.set_xlabel("lag + 1 (dashed: without the decay)")
    axes.set_ylabel("mean size of the coefficients")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3, frameon=False)
