"""The report of a comparison: results.csv, report.md, and report.html, one file that works offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from experiments import plots, summary, toeplitz_plots
from experiments.errors import user_errors
from experiments.files import write_text
from experiments.statistics import Pair
from experiments.summary import Summary

_TEMPLATES = Path(__file__).parent / "templates"


def write(out: Path) -> Path:
    """Write the report of the comparison in `out` from what its runs left; returns the path of report.html.

    Raises UserError where the folder holds no comparison.
    """
    found = summary.read(out)
    content = _content(found)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    with user_errors():
        write_text(out / "results.csv", found.table())
        write_text(out / "report.md", environment.get_template("report.md").render(content))
        write_text(out / "report.html", environment.get_template("report.html").render(content, plots=_plots(found)))
    return out / "report.html"


def _content(found: Summary) -> dict[str, Any]:
    """What both reports say."""
    done = [entry for entry in found.entries if entry.status == "done"]
    return {
        "title": f"{', '.join(found.labels)} on {found.settings.task}",
        "verdicts": found.verdicts(),
        "failures": found.failures(),
        "header": ["mixer", found.unit, "seeds", *(name for name, _, _ in _COLUMNS)],
        "rows": [_row(found, label) for label in found.labels],
        "pair_header": ["pair", "mean difference", "95% interval", "after Holm", "p after Holm", "seeds", "outcome"],
        "pairs": [_pair_row(pair) for pair in found.pairs()],
        "mixer_header": ["mixer", "row or pattern", "keywords", "positions", "channel mixer", "inner width"],
        "mixer_rows": [_mixer_row(found, label) for label in found.labels],
        "seed_header": ["mixer", *(f"seed {seed}" for seed in dict.fromkeys(entry.seed for entry in found.entries))],
        "seed_rows": [_seed_row(found, label) for label in found.labels],
        "baselines": {name: f"{value:.3f}" for name, value in found.baselines["test"].items()},
        "unit": found.unit,
        "data_note": found.data_note,
        "data_hash": ", ".join(sorted({entry.result["data_hash"] for entry in done})) or "unknown",
        "environment": done[0].result["environment"] if done else {},
        "backends": sorted({backend for entry in done for backend in entry.result["backends"].values()}),
        "settings": found.settings,
        "tokens": f"{found.tokens:,}",
    }


_COLUMNS = [
    ("parameters", "parameters", "{:,.0f}"),
    ("kFLOP / token", "flops_per_token", "{:,.0f}"),
    ("state, bytes", "state_bytes", "{:,.0f}"),
    ("tokens / s", "tokens_per_second", "{:,.0f}"),
    ("peak memory, MB", "peak_memory_bytes", "{:,.0f}"),
    ("seconds", "seconds", "{:.1f}"),
]
_SCALE = {"flops_per_token": 1e-3, "peak_memory_bytes": 1e-6}


def _row(found: Summary, label: str) -> list[str]:
    score = found.mean(label, found.metric)
    cells = [label, "failed" if score is None else f"{score:.3f}", str(len(found.of(label)))]
    for _, key, form in _COLUMNS:
        value = found.mean(label, key)
        cells.append("–" if value is None else form.format(value * _SCALE.get(key, 1)))
    return cells


def _mixer_row(found: Summary, label: str) -> list[str]:
    """What differs between the mixers beside the mixer itself."""
    settings = next(entry.settings for entry in found.entries if entry.label == label)
    backbone, mixer = settings["backbone"], settings["mixer"]
    keywords = ", ".join(f"{key}={value}" for key, value in mixer.items() if key != "name")
    width = "–" if backbone["channel"] == "none" else str(backbone["width"])
    return [label, mixer["name"], keywords or "the row's", backbone["position"], backbone["channel"], width]


def _pair_row(pair: Pair) -> list[str]:
    def interval(bounds: tuple[float, float]) -> str:
        return "–" if bounds[0] != bounds[0] else f"{bounds[0]:+.3f} to {bounds[1]:+.3f}"

    verdict = {"ahead": f"{pair.other} ahead", "behind": f"{pair.first} ahead"}.get(pair.outcome, pair.outcome)
    return [
        f"{pair.other} − {pair.first}",
        "–" if pair.mean != pair.mean else f"{pair.mean:+.3f}",
        interval(pair.interval),
        interval(pair.adjusted),
        "–" if pair.outcome in ("no verdict", "identical") else f"{pair.p_value:.2g}",
        str(pair.seeds),
        verdict,
    ]


def _seed_row(found: Summary, label: str) -> list[str]:
    entries = [entry for entry in found.entries if entry.label == label]
    return [label, *(f"{e.result[found.metric]:.3f}" if e.status == "done" else e.status for e in entries)]


def _plots(found: Summary) -> list[tuple[str, str, str]]:
    """Title, caption and svg of each picture."""
    unit, drawn = found.unit, []
    drawn.append(
        (
            f"{unit.capitalize()} of every seed",
            "A dot a seed, a bar at the mean, baselines dashed.",
            plots.points(found),
        )
    )
    held_out = (
        f"{unit.capitalize()} on held-out text"
        if not found.higher_is_better
        else f"{unit.capitalize()} on held-out examples"
    )
    caption = f"{held_out}, in the course of training: thin lines are seeds, thick ones their mean."
    drawn.append(("Learning over tokens", caption, plots.curves(found, "tokens")))
    seconds = "The same over seconds of training, with as many runs at a time as there were workers."
    drawn.append(("Learning over seconds", seconds, plots.curves(found, "seconds")))
    by_length = plots.extrapolation(found)
    if by_length:
        caption = "Each point scores the same held-out bytes, cut into pieces of that length; the mean over seeds."
        drawn.append((f"{unit.capitalize()} against length", caption, by_length))
    caption = "Forward, backward and update, the median of interleaved steps with nothing else running."
    drawn.append(("Speed", caption, plots.throughput(found)))
    layers = {label: found.of(label)[0].result.get("toeplitz") for label in found.labels if found.of(label)}
    layers = {label: kept for label, kept in layers.items() if kept}
    if layers:
        colours = {label: plots.colour_of(found, label) for label in layers}
        drawn += _toeplitz_plots(layers, found.training_length, colours)
    pictures = plots.dependence(found)
    if pictures:
        caption = (
            "Which inputs each output depends on: the size of the gradient of the model's hidden output by the "
            "embedding of each input, as a share of the row's largest. First finished seed, held-out sequences."
        )
        drawn.append(("Which inputs each output depends on", caption, pictures))
    return drawn


def _toeplitz_plots(
    layers: dict[str, toeplitz_plots.Layers], length: int, colours: dict[str, str]
) -> list[tuple[str, str, str]]:
    matrices = "The same as matrices: outputs down, inputs across, as a share of the largest. First finished seed."
    by_lag = (
        "How much a token weighs by its distance, where mixing is a Toeplitz matrix: the mean size over channels, a "
        "line a layer. Dashed: what TNN's encoder gives without its decay, which keeps lags that were never trained "
        "from mattering."
    )
    return [
        ("Coefficients by lag", by_lag, toeplitz_plots.by_lag(layers, length, colours)),
        ("Toeplitz matrices", matrices, toeplitz_plots.matrices(layers)),
    ]
