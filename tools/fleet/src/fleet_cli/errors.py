"""What the fleet command says when it cannot go on: one tree, every message a sentence for a person.

FleetCommandError
├── AlreadyRunning       another `fleet run` owns this project
├── NotRunning           the command needs a running fleet
├── PortTaken            another process listens where we want to
├── EngineUnavailable    an embedded engine is not installed or cannot run here
├── StartFailed          a child ended, or was not ready in time
├── BadInput             an argument is not what the command expects
└── CallFailed           a tool answered with an error, or could not be reached
"""

from __future__ import annotations


class FleetCommandError(Exception):
    """Raised for anything a person has to know; `hint` says what to do about it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the message and, below it, the hint."""
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class AlreadyRunning(FleetCommandError):
    """Raised when another `fleet run` owns this project."""


class NotRunning(FleetCommandError):
    """Raised when the command needs a running fleet."""


class PortTaken(FleetCommandError):
    """Raised when another process listens where we want to."""


class EngineUnavailable(FleetCommandError):
    """Raised when an embedded engine is not installed or cannot run here."""


class StartFailed(FleetCommandError):
    """Raised when a child ended at start, or was not ready in time."""


class BadInput(FleetCommandError):
    """Raised when an argument is not what the command expects."""


class CallFailed(FleetCommandError):
    """Raised when a tool answered with an error or could not be reached."""
