"""From what was read and what is stored to a plan: the passes over a run's workspace, each for one question.

They read and write the workspace and nothing else; what is decided about one thing stands in `rules`.
"""
