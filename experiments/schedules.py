"""Learning-rate schedules after the warm-up: the share of the highest rate.

Each is a function of the steps taken, the steps of the warm-up, all steps, and the share to end with.
"""

import math


def cosine(step: int, warmup: int, steps: int, final: float) -> float:
    """Half a cosine from 1 to `final`."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * _progress(step, warmup, steps)))


def linear(step: int, warmup: int, steps: int, final: float) -> float:
    """A straight line from 1 to `final`: with the warm-up, the one-cycle policy; fairseq's polynomial decay."""
    return 1 + (final - 1) * _progress(step, warmup, steps)


def inverse_sqrt(step: int, warmup: int, steps: int, final: float) -> float:
    """sqrt(warmup / step), as in fairseq (Vaswani et al., 2017, equation 3); `final` has no part in it."""
    return math.sqrt(warmup / max(step, warmup))


def constant(step: int, warmup: int, steps: int, final: float) -> float:
    """1 throughout; `final` has no part in it."""
    return 1.0


def _progress(step: int, warmup: int, steps: int) -> float:
    return (step - warmup) / max(1, steps - warmup)


SCHEDULES = {"cosine": cosine, "linear": linear, "inverse_sqrt": inverse_sqrt, "constant": constant}
