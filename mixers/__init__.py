"""Token mixers behind one interface: `names`, `card` and `build` find, describe and construct them by name."""

from mixers.registry import build, card, names

__all__ = ["build", "card", "names"]
