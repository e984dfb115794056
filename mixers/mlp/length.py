"""The largest N of mixers that hold parameters of each position."""


def require_length(length: int) -> int:
    """The length itself.

    Raises ValueError where it is below 1.
    """
    if length < 1:
        raise ValueError(f"length={length} must be at least 1")
    return length


def require_within(tokens: int, length: int) -> None:
    """Raise ValueError where a sequence has more tokens than there are positions."""
    if tokens > length:
        raise ValueError(f"N={tokens} is beyond length={length}, for which the positions were built")
