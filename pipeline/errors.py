"""Every fault that a person can act on, each with what happened and what to do.

PipelineError
├── EditError          the timeline, the clip or its ranges
├── PlateError         frames on disk: missing, doubled, broken, of changing size
├── KeyframeError      an artist's keyframe: unreadable, empty, of another size, outside the range
├── ParameterError     a task's parameter, or its declaration
├── TaskError          no such task, or one that can't be loaded
├── ModelError         weights: absent, of another hash, of a refused format
├── RunnerError        the model failed on a frame
├── StorageError       a disk is full, a folder unwritable, a share gone: never the frame's own fault
├── PathError          a path outside the roots that this dispatcher may touch
├── PublishError       a validator refused, or the version could not be put in place
├── StateError         a change of state that the table of moves doesn't allow
├── NotFoundError      no such job, version, attempt
├── AuthError          no token, a wrong one, or a right one without this right
├── ServerError        the dispatcher can't be reached or answered nonsense
└── SubmissionRefused  every fault of one submission at once
    └── RuleError      a rule file that can't be used: it refuses whatever it would have decided
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class PipelineError(Exception):
    """A fault told to a person: `message` says what and where, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type[PipelineError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class EditError(PipelineError):
    """A timeline, a clip or one of its ranges can't be used."""


class PlateError(PipelineError):
    """Frames on disk are missing, doubled, broken or don't belong together."""


class KeyframeError(PipelineError):
    """An artist's keyframe can't be used."""


class ParameterError(PipelineError):
    """A task's parameter has a value that its declaration doesn't allow."""


class TaskError(PipelineError):
    """A task isn't known, or its runner can't be loaded."""


class ModelError(PipelineError):
    """Weights are absent, changed, or of a format that is never loaded."""


class RunnerError(PipelineError):
    """The model failed on a frame."""


class StorageError(PipelineError):
    """A disk is full, a folder unwritable or a share gone: not the frame's fault, so it costs no attempt."""


class PathError(PipelineError):
    """A path lies outside the roots that may be read or written."""


class PublishError(PipelineError):
    """A validator refused the version, or it could not be put in place."""


class StateError(PipelineError):
    """A change of state that the table of moves doesn't allow."""


class NotFoundError(PipelineError):
    """Nothing of that number or name is visible to whoever asked."""


class AuthError(PipelineError):
    """No token, a wrong one, or one without this right."""


class ServerError(PipelineError):
    """The dispatcher can't be reached, or its answer can't be used."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a submission. `where` names the field or file, as the person wrote it."""

    where: str
    message: str
    hint: str = ""


class SubmissionRefused(PipelineError):
    """Everything wrong with one submission, gathered before anything was written."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        if not faults:
            raise ValueError("a refusal needs at least one fault")
        self.faults = tuple(faults)
        first = self.faults[0]
        more = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
        super().__init__(f"{first.where}: {first.message}{more}", first.hint)

    def __reduce__(self) -> tuple[type[SubmissionRefused], tuple[tuple[Fault, ...]]]:  # type: ignore[override]
        return type(self), (self.faults,)


class RuleError(SubmissionRefused):
    """A rule file can't be used, with every fault of it: nobody knows what it meant to forbid, so all is refused."""


def fault_of(error: PipelineError, where: str) -> Fault:
    """The fault that `error` stands for, at `where`."""
    return Fault(where=where, message=error.message, hint=error.hint)
