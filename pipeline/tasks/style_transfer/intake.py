"""What can be wrong with a style transfer before anything runs. Sizes of painted frames and paths are looked at for every task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from pipeline.errors import Fault, ModelError
from pipeline.models.inspect import inspect_controlnet, inspect_lora, recognise
from pipeline.tasks.intake import Submission, in_colour
from pipeline.tasks.style_transfer.definition import StyleParameters


def check(submission: Submission) -> Iterator[Fault]:
    """Every fault of this task's own."""
    parameters = submission.parameters
    assert isinstance(parameters, StyleParameters)  # validated against the definition
    yield from in_colour(submission.plate)
    by_model = submission.model.family == "diffusers"
    if not by_model:
        yield from _keys(submission, parameters)
    for name in ("lora", "controlnet"):
        if getattr(parameters, name) is not None and not by_model:
            yield Fault(
                f"parameter {name}", "goes with a diffusers folder, and none is the model", "name its base as the model"
            )
    if by_model:
        yield from _adapters(submission)
    if by_model and any(submission.keys.values()):
        yield Fault(
            "keys", "a diffusers model paints by itself and takes no painted frames", "leave out the keys or the model"
        )


def _adapters(submission: Submission) -> Iterator[Fault]:
    """Whether LoRA and ControlNet go with the base that they were given beside."""
    assert submission.model.path is not None  # a family is told of a path alone
    checks = {"lora": inspect_lora, "controlnet": inspect_controlnet}
    wanted = {name: path for name, path in submission.paths.items() if name in checks}
    if not wanted:
        return
    base = recognise(submission.model.path, families=("diffusers",))
    for name, path in wanted.items():
        try:
            checks[name](path, base)
        except ModelError as error:
            yield Fault(f"parameter {name}", error.message, error.hint)


def _keys(submission: Submission, parameters: StyleParameters) -> Iterator[Fault]:
    frames = [frame for painted in submission.keys.values() for frame in painted]
    if not frames and parameters.mood is None:
        yield Fault(
            "keys", "there is neither a painted frame nor a mood board", "paint one frame, or name a mood board"
        )
    for frame in sorted(set(frames) - set(submission.frames)):
        yield Fault("keys", f"frame {frame} is painted but not asked for", "move the key into the range")
    for frame in sorted(set(frames) & set(submission.missing)):
        yield Fault("keys", f"frame {frame} is painted, but the plate hasn't it", "paint a frame of the plate")
    for frame, count in sorted(Counter(frames).items()):
        if count > 1:
            yield Fault("keys", f"frame {frame} is painted {count} times", "give one picture for a frame")
