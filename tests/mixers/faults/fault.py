"""What a fault is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """In `module`, `line` becomes `edit`; then `row` breaks `law`."""

    about: str
    row: str
    module: str
    line: str
    edit: str
    law: str
