"""Every row that comes with mixerzoo: those of registry.yaml, and the causal Fourier rows of an ablation."""

from experiments.config import SETTINGS
from mixers import names

REGISTRY = str(SETTINGS / "ablations" / "masked_fourier.registry.yaml")
EVERY = names(registry=REGISTRY)
