"""Selective copying: repeat symbols that lie scattered among blanks (Gu and Dao, 2023, https://arxiv.org/abs/2312.00752)."""

from tasks.recall.copying import Data, repeating
from tasks.recall.questions import Recall

__all__ = ["Data", "load"]


def load(data: Data) -> Recall:
    """The task.

    Raises ValueError for options that do not go together.
    """
    return repeating(data, scattered=True)
