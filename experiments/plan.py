"""From the settings of a comparison to its runs."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

import torch

from experiments.assemble import build_model, count_parameters, match_parameters, resolve
from experiments.config import Comparison, Run, restore
from experiments.errors import UserError
from experiments.machine import choose_device, settle
from tasks.contract import Task


def labelled_mixers(mixers: Any) -> list[tuple[str | None, dict[str, Any]]]:
    """Labels (None: from the name) and mixer sections of `mixers=`: names, patterns, or {label: {row: name, …}}.

    Raises UserError for anything else.
    """
    entries = [mixers] if isinstance(mixers, (str, dict)) else mixers
    if not isinstance(entries, list) or not entries:
        raise UserError("mixers= needs a list of names, such as mixers=[gtu,softmax]")
    found: list[tuple[str | None, dict[str, Any]]] = []
    for entry in entries:
        if isinstance(entry, str):
            found.append((None, {"name": entry}))
        elif isinstance(entry, dict):
            for label, section in entry.items():
                if not isinstance(section, dict) or not isinstance(section.get("row"), str):
                    raise UserError(f"mixers: {label} must be of the form {{{label}: {{row: NAME, keyword: value}}}}")
                keywords = {str(key): value for key, value in section.items() if key != "row"}
                found.append((str(label), {"name": section["row"], **keywords}))
        else:
            raise UserError(f"mixers: {entry!r} is neither a name nor {{label: {{row: NAME}}}}")
    return found


def seed_list(seeds: Any) -> list[int]:
    """The seeds of `seeds=`, a number of them or a list.

    Raises UserError for repeats, negative seeds and anything else.
    """
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        seeds = list(range(seeds))
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UserError(f"seeds={seeds} must be a number of at least 1 or a list of whole numbers of at least 0")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds} repeats a seed; a run of the same seed is the same run")
    return seeds


def length_list(lengths: Any) -> list[int]:
    """The lengths of `lengths=`, each once, the shortest first.

    Raises UserError for anything else than a list of whole numbers of at least 1.
    """
    if not isinstance(lengths, list) or not lengths or not all(type(n) is int and n > 0 for n in lengths):
        raise UserError(f"lengths={lengths} must be of the form lengths=[512,1024]")
    return sorted(set(lengths))


def fix_machine(settings: Comparison) -> Comparison:
    """The settings with workers and threads written out: two workers of one thread each on a CPU with two cores."""
    cores = os.cpu_count() or 1
    on_cpu = choose_device(settings.train).type == "cpu"
    workers = settings.workers or (min(2, cores) if on_cpu else 1)
    threads = max(1, torch.get_num_threads() // workers)
    return dataclasses.replace(settings, workers=workers, train=settle(settings.train, threads=threads))


def plan(settings: Comparison, task: Task) -> list[Run]:
    """The resolved runs, seed by seed, each seed with all mixers.

    Raises UserError for a mixer, form, keyword, label or seed that cannot be, before anything is trained.
    """
    seeds = seed_list(settings.seeds)
    content = {
        key: value for key, value in _sections(settings).items() if key in Run.__dataclass_fields__ or key == "data"
    }
    runs: list[Run] = []
    for label, mixer in labelled_mixers(settings.mixers):
        run = resolve(restore(Run, {**content, "label": label, "mixer": mixer, "out": None}), task.causal)
        if not re.fullmatch(r"[\w.+-]+", str(run.label)):
            raise UserError(f"the label {run.label!r} names a folder: use letters, digits and . + - _")
        if run.label in [other.label for other in runs]:
            raise UserError(f"mixers= names {run.label} twice; give one of them a label, {{label: {{row: NAME}}}}")
        runs.append(run)
    sizes = [count_parameters(build_model(run, task)) for run in runs]  # a value that a mixer refuses shows now
    if settings.match == "parameters":  # the largest stays as it is, the others grow
        largest = max(sizes)
        runs = [
            run if size == largest else match_parameters(run, task, largest)
            for run, size in zip(runs, sizes, strict=True)
        ]
    return [dataclasses.replace(run, seed=seed) for seed in seeds for run in runs]


def folder_name(run: Run) -> str:
    """The name of a run's folder inside its comparison."""
    return f"{run.label}-{run.seed}"


def _sections(settings: Comparison) -> dict[str, Any]:
    return {entry.name: _plain(getattr(settings, entry.name)) for entry in dataclasses.fields(settings)}


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
