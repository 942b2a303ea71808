"""What can go wrong with a local stack, in words for the person who typed the command."""


class StackFault(Exception):
    """A start or a step failed; the text says what, and where to look."""


class StepFailed(StackFault):
    """A step of the guided setup did not come out; `step` names it."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"step failed: {step}: {reason}")
        self.step = step
