"""Try laws on mixers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixers.contract import Mixer
from mixers.laws.law import BrokenLaw, Law
from mixers.laws.subject import LONGEST, Example, Subject, Trial
from mixers.laws.table import LAWS
from mixers.registry import CLAIMS, IMPLIED, did_you_mean

CHECK = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=[*HealthCheck],  # pyright: ignore[reportArgumentType]  an enumeration
)
"""How `check_mixer` draws: the same examples each time, so that a verdict can be repeated."""


@dataclass(frozen=True)
class Finding:
    """One law, whether it holds, and if not, how the smallest example breaks it."""

    law: Law
    holds: bool
    claimed: bool  # universal laws count as claimed
    message: str = ""


def check_mixer(cls: Callable[..., Mixer], *, claims: Iterable[str] | None = None, **keywords: Any) -> list[Finding]:
    """Try every law on `cls`, built as cls(dim=8, **keywords).

    With claims, raises BrokenLaw for the first universal or claimed law that fails, with the smallest example.
    Without, returns what holds and what does not. Raises KeyError for an unknown claim.
    """
    claimed = None if claims is None else with_implied(claims)
    findings = []
    for finding in survey(Subject.of_class(cls, claims=claimed, **keywords)):
        if claims is not None and finding.claimed and not finding.holds:
            raise BrokenLaw(finding.message)
        findings.append(finding)
    return findings


def survey(subject: Subject, progress: Callable[[Law], None] = lambda law: None) -> Iterator[Finding]:
    """Try every law on every form of the subject that it speaks of; `progress` is called before each law."""
    for law in LAWS.values():
        progress(law)
        claimed = law.claim is None or (subject.claims is not None and law.claim in subject.claims)
        try:
            for form in forms_of(law, subject):
                prove(law, subject, form, CHECK, lengths=lengths_around(subject.sizes))
            holds = bool(forms_of(law, subject))
            yield Finding(law, holds, claimed, "" if holds else f"{law.name}: the mixer lacks the form")
        except BrokenLaw as broken:
            yield Finding(law, False, claimed, str(broken))


def forms_of(law: Law, subject: Subject) -> tuple[bool, ...]:
    """The forms of the subject that the law speaks of; a subject with one form answers for both."""
    if law.form is None or (len(subject.forms) == 1 and subject.claims is None):
        return subject.forms
    return tuple(form for form in subject.forms if form == law.form)


def prove(
    law: Law, subject: Subject, causal: bool, profile: settings | None = None, *, lengths: tuple[int, ...] = ()
) -> None:
    """Try one law on one form with examples from hypothesis; raises BrokenLaw with the smallest that breaks it.

    `profile` replaces hypothesis's current one. `lengths` are tried beside N = 1 .. 40.
    """

    def attempt(example: Example) -> None:
        try:
            law.check(Trial(subject, causal, example))
        except Exception as error:
            crashed = not isinstance(error, BrokenLaw)
            what = f"{type(error).__name__}: {error}" if crashed else str(error)
            form = "causal" if causal else "bidirectional"
            raise BrokenLaw(
                f"{subject.name} breaks {law.name} ({form}): {what} [{example}]", crashed=crashed
            ) from error

    (profile or settings())(given(examples(lengths))(attempt))()


@st.composite
def examples(draw: st.DrawFn, lengths: tuple[int, ...]) -> Example:
    """Small shapes and seeds."""
    length = draw(st.integers(1, LONGEST) | st.sampled_from(lengths) if lengths else st.integers(1, LONGEST))
    return Example(
        batch=draw(st.integers(1, 3)),
        length=length,
        cut=draw(st.integers(1, max(length - 1, 1))),
        chunk=draw(st.integers(1, 8)),
        training=draw(st.booleans()),
        seed=draw(st.integers(0, 999)),
    )


def lengths_around(sizes: Iterable[int]) -> tuple[int, ...]:
    """Lengths beyond the usual ones that are worth trying: around each size and around powers of two."""
    around = {size + offset for size in (*sizes, 64, 128, 256, 512, 1024) for offset in (-1, 0, 1)}
    return tuple(sorted(length for length in around if length > LONGEST))


def with_implied(claims: Iterable[str]) -> list[str]:
    """The claims and all that they imply.

    Raises KeyError for a claim that does not exist.
    """
    claims = list(claims)
    for claim in claims:
        if claim not in CLAIMS:
            raise KeyError(f"unknown claim {claim!r}{did_you_mean(str(claim), CLAIMS)}")
    while missing := [IMPLIED[claim] for claim in claims if claim in IMPLIED and IMPLIED[claim] not in claims]:
        claims += missing
    return claims
