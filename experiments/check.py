"""Try the laws on a mixer and print which hold."""

import inspect

import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from experiments.config import parse_value
from experiments.errors import UserError, one_line
from mixers.contract import Mixer
from mixers.laws import Finding, Subject, survey
from mixers.laws.check import with_implied
from mixers.laws.subject import Trial
from mixers.registry import card, did_you_mean, load_class, names


def check(target: str, arguments: list[str], console: Console) -> None:
    """Try every law on a row or on package.module:Class.

    Raises UserError where the class cannot be imported or built, and for broken laws: universal or claimed ones.
    """
    options = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals:
            raise UserError(f"{argument!r} is not of the form key=value")
        options[key] = parse_value(key, text)
    subject = _subject(target, options)
    torch.set_num_threads(
        1
    )  # the shapes are small: more threads would wait for each other, for minutes on a busy machine
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True) as progress:
        bar = progress.add_task("")
        findings = list(survey(subject, lambda law: progress.update(bar, description=law.name)))
    console.print(_table(findings))
    broken = [finding for finding in findings if finding.claimed and not finding.holds]
    if broken:
        more = ", ".join(finding.law.name for finding in broken[1:])
        raise UserError(broken[0].message + (f"; it breaks {more} too" if more else ""))


def _subject(target: str, options: dict) -> Subject:
    claims, registry = options.pop("claims", None), options.pop("registry", None)
    registry = None if registry is None else str(registry)
    known = names(registry=registry)
    if ":" not in target and target not in known:
        raise UserError(f"{target!r} is no mixer's name, nor package.module:Class{did_you_mean(target, known)}")
    if ":" not in target and not options and claims is None:
        subject = Subject.of_row(target, registry=registry)
        _require_construction(subject)
        return subject
    row = None if ":" in target else card(target, registry=registry)
    cls = load_class(row.target if row else target)
    parameters = inspect.signature(cls).parameters
    for key in options:
        if key not in parameters:
            raise UserError(f"{cls.__name__} has no keyword {key!r}{did_you_mean(key, [*parameters, 'claims'])}")
    if claims is None and row:
        claims = row.claims
    if claims is not None and not isinstance(claims, (list, tuple)):
        raise UserError(f"claims={claims} must be a list, such as claims=[causal,prefix]")
    if type(options.get("dim", 8)) is not int or options.get("dim", 8) < 1:
        raise UserError(f"dim={options['dim']} must be a whole number of at least 1")
    keywords = {**(row.keywords if row else {}), **options}
    subject = Subject.of_class(cls, claims=None if claims is None else with_implied(claims), **keywords)
    _require_construction(subject)
    return subject


def _require_construction(subject: Subject) -> None:
    try:
        mixers = [Trial.plain(subject, causal).mixer() for causal in subject.forms]
    except Exception as error:  # a plug-in's constructor may fail in any way
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"cannot build {subject.name}(dim={subject.dim}): {reason}") from error
    if not all(isinstance(mixer, Mixer) for mixer in mixers):
        raise UserError(f"{subject.name} must be a subclass of mixers.contract.Mixer")


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for header in ("law", "", "what it says, or the smallest example that breaks it"):
        table.add_column(
            header, overflow="fold", no_wrap=header != "what it says, or the smallest example that breaks it"
        )
    for finding in findings:
        if finding.holds:
            verdict = "[green]holds[/]" if finding.claimed else "[yellow]holds, not claimed[/]"
        else:
            verdict = "[red]broken[/]" if finding.claimed else "[dim]does not hold[/]"
        table.add_row(finding.law.name, verdict, finding.law.says if finding.holds else finding.message)
    return table
