"""Lab: what a notebook holds. It ties the rooms together and decides nothing.

`lab.py` has the acts and the questions that every lesson needs; each further family of questions has a module of its
own, a class that Lab inherits.
"""

from labkit.lab.declared import Files
from labkit.lab.declared import Files as files
from labkit.lab.lab import MODES, Lab, Secret, open

__all__ = ["MODES", "Files", "Lab", "Secret", "files", "open"]
