"""All laws, in the order in which they are tried."""

from mixers.laws import claimed, universal
from mixers.laws.law import Law


def _law(check, claim: str | None = None, form: bool | None = None) -> Law:
    return Law(check.__name__, " ".join(check.__doc__.split("\n\n")[0].split()), check, claim, form)


UNIVERSAL = tuple(
    _law(check)
    for check in (
        universal.shape,
        universal.lengths,
        universal.edges,
        universal.finite,
        universal.precision,
        universal.batch,
        universal.pads,
        universal.reach,
        universal.gradient,
        universal.determinism,
        universal.process,
        universal.round_trip,
        universal.strides,
        universal.autocast,
        universal.rules,
        universal.refusals,
    )
)

CLAIMED = (
    _law(claimed.causal, "causal", True),
    _law(claimed.every_cut, "causal", True),
    _law(claimed.narrow_causal, "causal", True),
    _law(claimed.autocast_causal, "causal", True),
    _law(claimed.bidirectional, "bidirectional", False),
    _law(claimed.prefix, "prefix", True),
    _law(claimed.any_length, "any_length"),
    _law(claimed.padding, "padding"),
    _law(claimed.step, "step", True),
    _law(claimed.prefill, "step", True),
    _law(claimed.constant_state, "constant_state", True),
    _law(claimed.linear, "linear"),
    _law(claimed.shift, "shift"),
)

LAWS = {law.name: law for law in UNIVERSAL + CLAIMED}

COMPILED = _law(universal.compiled)
"""Universal too, and slow: tried under the thorough profile alone."""
