"""The command line. Heavy libraries are imported by the commands that use them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from experiments.errors import UserError, one_line, user_errors
from mixers.registry import card, did_you_mean, names

if TYPE_CHECKING:
    from experiments.summary import Summary

console = Console(emoji=False)  # module:M: is no emoji

FORMS = ("causal", "bidirectional")

WIDE = 110
"""The columns that `list` takes at the least, so that it cuts no name, claim or paper."""

REGISTRY = "registry=FILE.yaml adds the rows of a file"

SETTINGS = "key=value settings, such as task=python train.tokens=1000000; config=FILE.yaml reads more from a file"


def main() -> None:
    """Run one command; bad input ends with one line and exit code 2."""
    sys.path.append(os.getcwd())  # plug-ins live there; at the end, so that it hides nothing
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    arguments = vars(_parser().parse_args())
    command = arguments.pop("command")
    try:
        command(**arguments)
    except (UserError, OSError) as error:  # OSError: a full disk, a missing right
        line = f"mixerzoo: {one_line(error)}"
        Console(stderr=True, soft_wrap=True, emoji=False).print(line, markup=False, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mixerzoo",
        description="Compare sequence mixers by name, under identical settings.",
        epilog="Start with: mixerzoo compare task=python mixers=[gtu,softmax] seeds=3 match=parameters out=runs/first",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command, about: str) -> argparse.ArgumentParser:
        child = commands.add_parser(name, help=about, description=about)
        child.set_defaults(command=command)
        return child

    child = add("list", list_mixers, "List the mixers: family, forms, claims, time, state, paper.")
    child.add_argument("patterns", nargs="*", help="names to show, such as 'softmax*'; " + REGISTRY)
    child = add("show", show, "Show one mixer, one task's recipe, or one finished run or comparison in full.")
    child.add_argument("name", help="a mixer, a task, or a folder")
    child.add_argument(
        "settings", nargs="*", help=REGISTRY + "; of a task, key=value settings to estimate the time for"
    )
    child = add("train", train, "Train one run, or go on with it.")
    child.add_argument("settings", nargs="*", help=SETTINGS + "; mixer=NAME mixer.KEYWORD=VALUE seed=N out=FOLDER")
    child = add("compare", compare, "Train every mixer with every seed, or go on with it, and write the report.")
    child.add_argument(
        "settings",
        nargs="*",
        help=SETTINGS + "; mixers=[NAME,NAME*5,{LABEL: {row: NAME, KEYWORD: VALUE}}] seeds=N match=parameters "
        "block=paper workers=N out=FOLDER",
    )
    child = add("report", report, "Rebuild the report of a comparison from what its runs left.")
    child.add_argument("folder", type=Path)
    child = add("speed", speed, "Time training steps of mixers at several lengths, and their peak memory.")
    child.add_argument("settings", nargs="*", help=SETTINGS + "; mixers=[NAME,NAME] lengths=[512,1024] out=FILE.csv")
    child = add("extrapolate", extrapolate, "Score trained runs at other lengths than they were trained with.")
    child.add_argument("folder", type=Path, help="a comparison or a run")
    child.add_argument("lengths", help="lengths=[512,1024,2048]")
    child = add("convert", convert, "Turn a trained gtu run into one that decodes with a constant state.")
    child.add_argument("folder", type=Path, help="a finished run")
    child.add_argument(
        "--order", type=_order, default=32, help="exponentials a channel, or exact (default: %(default)s)"
    )
    child.add_argument("--out", type=Path, help="where to write the new run (default: beside the old one)")
    child = add("generate", generate, "Continue a prompt with a trained language model.")
    child.add_argument("folder", type=Path, help="a run")
    child.add_argument("--prompt", default="def ", help="the text to continue (default: %(default)r)")
    child.add_argument("--tokens", type=int, default=200, help="how many to add at most (default: %(default)s)")
    child.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest (default: %(default)s)")
    child.add_argument("--top-k", type=int, help="keep this many of the likeliest")
    child.add_argument("--top-p", type=float, help="keep the fewest that hold this probability")
    child.add_argument("--stop", help="end after this text")
    child.add_argument("--seed", type=int, default=0)
    child = add("check", check, "Try the laws on a mixer: a row, or a class of your own.")
    child.add_argument("target", help="a mixer's name, or package.module:Class")
    child.add_argument(
        "settings", nargs="*", help="claims=[causal,prefix] dim=8 and the constructor's keywords; " + REGISTRY
    )
    commands.add_parser("work").set_defaults(command=_work)  # what `compare` starts; reads folders from its input
    return parser


def list_mixers(patterns: list[str]) -> None:
    """Print the rows whose names match one of the patterns."""
    patterns, registry = _split_registry(patterns)
    with user_errors():
        known = names(registry=registry)
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in known):
            raise UserError(f"no mixer matches {pattern!r}{did_you_mean(pattern, known)}")
    wanted = [name for name in known if any(fnmatch(name, pattern) for pattern in patterns or ["*"])]
    width = None if console.width >= WIDE else WIDE
    table = Table(box=None, header_style="bold", pad_edge=False, width=width)
    for header in ("name", "family", "forms", "further claims", "time", "state", "paper"):
        table.add_column(
            header, no_wrap=header != "further claims", min_width=14 if header == "further claims" else None
        )
    for row in (card(name, registry=registry) for name in wanted):
        forms = [form for form in FORMS if form in row.claims]
        further = [claim for claim in row.claims if claim not in FORMS]
        shown = "both" if len(forms) == 2 else forms[0]
        table.add_row(row.name, row.family, shown, ", ".join(further), row.time, row.state, row.paper.split("/")[-1])
    console.print(table, crop=False)


def show(name: str, settings: list[str]) -> None:
    """Print a mixer, a task, a run or a comparison."""
    import tasks
    from experiments import show as pages

    strangers, registry = _split_registry(settings)
    if strangers and name not in tasks.names():
        raise UserError(f"{strangers[0]!r} is not of the form registry=FILE.yaml")
    with user_errors():
        known = names(registry=registry)
    if Path(name, "config.yaml").exists():
        pages.folder(Path(name), console)
    elif name in known:
        pages.mixer(name, console, registry=registry)
    elif name in tasks.names():
        pages.task(name, settings, console)
    else:
        raise UserError(f"{name!r} is no mixer, task or finished folder{did_you_mean(name, [*known, *tasks.names()])}")


def train(settings: list[str]) -> None:
    """Train one run in this process."""
    from experiments.config import Run, load
    from experiments.single import train_one

    train_one(load(Run, settings), console)


def compare(settings: list[str]) -> None:
    """Run a comparison and print what came out."""
    from experiments.compare import compare as run_comparison
    from experiments.config import Comparison, load
    from experiments.summary import read

    path = run_comparison(load(Comparison, settings), console)
    _print_summary(read(path.parent))
    console.print(f"report: {path}", soft_wrap=True)


def report(folder: Path) -> None:
    """Rebuild a report."""
    from experiments.report import write
    from experiments.summary import read

    path = write(folder)
    _print_summary(read(folder))
    console.print(f"report: {path}", soft_wrap=True)


def speed(settings: list[str]) -> None:
    """Time mixers at several lengths and print the table."""
    from experiments.config import Speed, load
    from experiments.speed import speed as time_all

    time_all(load(Speed, settings), console)


def extrapolate(folder: Path, lengths: str) -> None:
    """Score runs at other lengths."""
    from experiments.extrapolate import extrapolate as score

    score(folder, lengths, console)


def convert(folder: Path, order: int | None, out: Path | None) -> None:
    """Convert one run."""
    from experiments.convert import convert as to_state_space

    to_state_space(folder, order, out, console)


def _order(text: str) -> int | None:
    """--order: a number of at least 1, or None for `exact`."""
    if text == "exact":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of at least 1, or exact")
    return int(text)


def generate(folder: Path, **options) -> None:
    """Continue a prompt."""
    from experiments.generate import generate as continue_prompt

    sys.stdout.write(continue_prompt(folder, **options) + "\n")


def check(target: str, settings: list[str]) -> None:
    """Try the laws on one mixer."""
    from experiments.check import check as try_laws

    with user_errors():
        try_laws(target, settings, console)


def _work() -> None:
    from experiments.worker import work

    work()


def _split_registry(arguments: list[str]) -> tuple[list[str], str | None]:
    """The other arguments, and the file of `registry=FILE.yaml`."""
    files = [argument.removeprefix("registry=") for argument in arguments if argument.startswith("registry=")]
    others = [argument for argument in arguments if not argument.startswith("registry=")]
    return others, files[-1] if files else None


def _print_summary(summary: Summary) -> None:
    for sentence in [*summary.verdicts(), *summary.failures()]:
        console.print(sentence, markup=False)
