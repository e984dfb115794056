"""The pictures of a report, as SVG."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from experiments.summary import Summary

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f4fc9", "#8c6d31", "#5f5f5f"]
"""Distinct for most eyes (Okabe and Ito), repeated beyond nine mixers."""

STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "svg.hashsalt": "mixerzoo",
}


def points(summary: Summary) -> str:
    """The metric of each seed, one row a mixer, with the baselines as lines."""
    labels = summary.labels
    figure, axes = _figure(5.4, 1.2 + 0.45 * len(labels))
    for row, label in enumerate(labels):
        values = [entry.result[summary.metric] for entry in summary.of(label)]
        colour = colour_of(summary, label)
        axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.75, markersize=7)
        if values:
            axes.plot([np.mean(values)] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.5)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.9)
    _baselines(summary.baselines["test"], axes, vertical=True)
    axes.set_xlabel(_axis_label(summary))
    return svg(figure)


def curves(summary: Summary, against: str) -> str:
    """The validation metric against tokens or seconds of training: a line a mixer (mean), a thin one a seed."""
    figure, axes = _figure(5.4, 3.6)
    for label in summary.labels:
        runs = [entry.records for entry in summary.of(label) if entry.records]
        for records in runs:
            axes.plot(
                *_columns(records, against, summary.metric), color=colour_of(summary, label), alpha=0.3, linewidth=0.8
            )
        if runs:
            shortest = min(map(len, runs))
            columns = np.array([_columns(records[:shortest], against, summary.metric) for records in runs])
            axes.plot(*columns.mean(0), color=colour_of(summary, label), linewidth=2, label=label)
    _zoom(summary, axes)
    _baselines(summary.baselines["validation"], axes, vertical=False)
    if against == "tokens":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("training tokens" if against == "tokens" else "training seconds")
    axes.set_ylabel(_axis_label(summary))
    _legend(axes)
    return svg(figure)


def extrapolation(summary: Summary) -> str | None:
    """The metric against length; None where the task has no such measure."""
    figure, axes = _figure(5.4, 3.6)
    drawn = False
    for label in summary.labels:
        tables = [entry.result["extrapolation"] for entry in summary.of(label) if entry.result.get("extrapolation")]
        if tables:
            lengths = sorted({int(length) for table in tables for length in table})
            means = [np.mean([table[str(n)] for table in tables if str(n) in table]) for n in lengths]
            axes.plot(lengths, means, "o-", color=colour_of(summary, label), label=label, markersize=5)
            drawn = True
    if not drawn:
        return None
    training = summary.training_length
    axes.axvline(training, color="#888888", linestyle=":", linewidth=1.2)
    axes.text(training, axes.get_ylim()[1], " training length", va="top", fontsize=9, color="#555555")
    axes.set_xscale("log", base=2)
    ticks = sorted({int(length) for line in axes.get_lines()[:-1] for length in np.asarray(line.get_xdata())})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("length")
    axes.set_ylabel(_axis_label(summary))
    _legend(axes)
    return svg(figure)


def throughput(summary: Summary) -> str:
    """Tokens a second in training."""
    labels = [label for label in summary.labels if summary.mean(label, "tokens_per_second")]
    figure, axes = _figure(5.4, 0.9 + 0.4 * len(labels))
    speeds = [summary.mean(label, "tokens_per_second") or 0.0 for label in labels]
    bars = axes.barh(range(len(labels)), speeds, color=[colour_of(summary, label) for label in labels], height=0.6)
    axes.bar_label(bars, [f" {speed:,.0f}" for speed in speeds], fontsize=10)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.14)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("training tokens a second")
    return svg(figure)


def dependence(summary: Summary) -> str | None:
    """For each mixer, which inputs (across) each output (down) depends on."""
    found = {label: summary.of(label)[0].result.get("dependence") for label in summary.labels if summary.of(label)}
    found = {label: rows for label, rows in found.items() if rows}
    if not found:
        return None
    across = min(3, len(found))
    down = math.ceil(len(found) / across)
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(5.4, 1.9 * down + 0.5), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False)
    image = None
    for axes, (label, rows) in zip(grid.flat, found.items(), strict=False):
        sizes = np.log10(np.maximum(np.array(rows), 1e-4))
        image = axes.imshow(sizes, cmap="magma_r", vmin=-4, vmax=0, interpolation="nearest")
        axes.set_title(label, fontsize=11)
        axes.set_xticks([0, len(rows) - 1])
        axes.set_yticks([0, len(rows) - 1])
    for axes in grid.flat[len(found) :]:
        axes.axis("off")
    for axes in grid[-1]:
        axes.set_xlabel("input token", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("output token", fontsize=9)
    assert image is not None
    bar = figure.colorbar(image, ax=grid, shrink=0.8, aspect=30, pad=0.02)
    bar.set_ticks([-4, -3, -2, -1, 0], labels=["≤ 0.0001", "0.001", "0.01", "0.1", "1"])
    return svg(figure)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def svg(figure: Figure) -> str:
    """The figure as an svg element that scales with the page; same figure, same text."""
    text = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]


def colour_of(summary: Summary, label: str) -> str:
    """The colour of a mixer in every picture of a report."""
    return COLOURS[summary.labels.index(label) % len(COLOURS)]


def _axis_label(summary: Summary) -> str:
    return f"{summary.unit} ({'higher' if summary.higher_is_better else 'lower'} is better)"


def _columns(records: list[dict[str, Any]], *keys: str) -> list[list[float]]:
    return [[record[key] for record in records] for key in keys]


def _zoom(summary: Summary, axes: Axes) -> None:
    """Show what comes after the untrained start, with the baselines in sight."""
    later = [r[summary.metric] for entry in summary.entries for r in entry.records[1:] if entry.status == "done"]
    if later:
        shown = [*later, *summary.baselines["validation"].values()]
        low, high = min(shown), max(shown)
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def _baselines(values: dict[str, float], axes: Axes, *, vertical: bool) -> None:
    """The baselines as dashed lines, their names at one end."""
    for name, value in values.items():
        if vertical:
            axes.axvline(value, color="#777777", linestyle="--", linewidth=1)
            axes.text(value, -0.85, f" {name}", fontsize=8.5, color="#444444", va="top", rotation=0)
        else:
            axes.axhline(value, color="#777777", linestyle="--", linewidth=1)
            place = axes.get_yaxis_transform()
            axes.text(0.01, value, name, fontsize=8.5, color="#444444", va="bottom", transform=place)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3, frameon=False)
