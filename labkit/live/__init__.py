"""The mesh as it is now: watched, probed and counted by one thread, for every picture that wants to be kept up to date.

Nothing here knows Jupyter. A widget subscribes and is called with frames; a cell can ask the same functions.
"""
