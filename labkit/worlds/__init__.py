"""The state that a lesson starts from, made for real on an empty or a used cluster, and the way back.

Which state that is stands in `labkit.course`: a lesson's world is data.
"""

from labkit.worlds.journal import Journal, Undo, wait_until_gone
from labkit.worlds.making import MINTED_LABEL, Builder, find_world, make_world, restart

__all__ = ["MINTED_LABEL", "Builder", "Journal", "Undo", "find_world", "make_world", "restart", "wait_until_gone"]
