"""SAM 2 (Ravi et al. 2024) as the one that follows the object: prompts or key mattes in, a matte on every frame out.

The model's memory goes from frame to frame, so this is a fit's work: it starts at the frames that were prompted, walks to the
end of the scene and back to its start, and leaves a small matte for every frame. Nothing crosses a cut.

Its own video processor isn't used. Frames are brought to the model's square by hand, one at a time, and what its memory no
longer reaches is let go, so that a long shot takes no more room than a short one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers.models.sam2_video.modeling_sam2_video import (
    Sam2VideoInferenceCache,
    Sam2VideoInferenceSession,
)

from pipeline.tasks.roto.prompts import Prompts

Float = NDArray[np.float32]

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_POINTS_A_STROKE = 8
"""A stroke says no more to the model than some points on it."""
_ON, _OFF, _TOP_LEFT, _BOTTOM_RIGHT = 1, 0, 2, 3
"""Labels of the prompt encoder."""
_HARD = 0.5
"""The model takes hard masks only."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """An object on a frame. `matte`: (height, width) 0 … 1; `presence`: 0 … 1, how sure the model is that the object is there."""

    index: int
    name: str
    matte: Float
    presence: float


@dataclass(slots=True)
class Subject:
    """What is known of an object, by index of the frame: mattes at any size, or prompts in pixels of a `shape` picture."""

    mattes: Mapping[int, Float] = field(default_factory=dict)
    prompts: Mapping[int, Prompts] = field(default_factory=dict)

    def within(self, first: int, end: int) -> list[int]:
        """The frames of a scene that say something."""
        return sorted(i for i in {*self.mattes, *self.prompts} if first <= i < end)


class Sam2Tracker:
    """A `Sam2VideoModel` and a shot's frames, asked for by index as (3, height, width) in model space."""

    def __init__(
        self, model: Any, read: Callable[[int], Float], count: int, shape: tuple[int, int], breaks: Sequence[int]
    ) -> None:
        """`shape`: (height, width) of the mattes to give and of the pixels that prompts count in. `breaks`: first frames of
        other scenes."""
        self._model, self._read, self._count, self._shape = model, read, count, shape
        self._edges = sorted({0, count, *(b for b in breaks if 0 < b < count)})
        self.side = int(model.config.image_size)
        config = model.config
        self._reach = max(int(config.num_maskmem), int(config.max_object_pointers_in_encoder)) + 1

    def track(self, subjects: Mapping[str, Subject]) -> Iterator[Tracked]:
        """Every object on every frame, scene by scene, in no promised order, each once. Where nothing of a scene was said of an
        object, its mattes are empty and its presence 0."""
        for first, end in pairwise(self._edges):
            known = {name: s for name, s in subjects.items() if s.within(first, end)}
            for name in subjects:
                if name not in known:
                    for index in range(first, end):
                        yield Tracked(index, name, np.zeros(self._shape, np.float32), 0.0)
            if known:
                yield from self._scene(known, first, end)

    def _scene(self, subjects: Mapping[str, Subject], first: int, end: int) -> Iterator[Tracked]:
        """One walk forward and one back. Each object has a session, and all share the features of a frame."""
        cache = Sam2VideoInferenceCache()
        walks = {n: _Walk(self._model, self._picture, cache, first, end, self._reach) for n in subjects}
        with torch.inference_mode():
            for name, subject in subjects.items():
                for index in subject.within(first, end):
                    self._tell(walks[name], subject, index)
            for index in range(min(w.start for w in walks.values()), end):
                for name, walk in walks.items():
                    if index >= walk.start:
                        yield self._result(index, name, *walk.step(index, reverse=False))
            for index in range(max(w.start for w in walks.values()) - 1, first - 1, -1):
                for name, walk in walks.items():
                    if index < walk.start:
                        yield self._result(index, name, *walk.step(index, reverse=True))

    def _tell(self, walk: _Walk, subject: Subject, index: int) -> None:
        if index in subject.mattes:
            matte = torch.from_numpy(np.ascontiguousarray(subject.mattes[index]))[None, None]
            square = F.interpolate(matte, (self.side, self.side), mode="bilinear", antialias=True)
            walk.tell(index, mask=(square >= _HARD).float())
            return
        height, width = self._shape
        prompts = subject.prompts[index].scaled(self.side / width, self.side / height)
        on, off = prompts.along(_POINTS_A_STROKE), prompts.off
        corners = () if prompts.box is None else (prompts.box[:2], prompts.box[2:])
        labels = [_TOP_LEFT, _BOTTOM_RIGHT][: len(corners)] + [_ON] * len(on) + [_OFF] * len(off)
        points = torch.tensor([*corners, *on, *off], dtype=torch.float32)[None, None]
        walk.tell(index, points=points, labels=torch.tensor(labels, dtype=torch.int32)[None, None])

    def _picture(self, index: int) -> Tensor:
        """(3, side, side), squashed to the square as the model was trained, normalised."""
        rgb = torch.from_numpy(np.clip(self._read(index), 0, 1).astype(np.float32))[None]
        square = F.interpolate(rgb, (self.side, self.side), mode="bilinear", antialias=True)[0]
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (_MEAN, _STD))
        return (square - mean) / std

    def _result(self, index: int, name: str, logits: Tensor, score: float) -> Tracked:
        large = F.interpolate(logits, self._shape, mode="bilinear", align_corners=False)
        return Tracked(index, name, torch.sigmoid(large)[0, 0].numpy(), float(torch.sigmoid(torch.tensor(score))))


class _Walk:
    """One object's session over a scene. Indices count the shot's frames; the session counts the scene's own from 0."""

    def __init__(
        self, model: Any, picture: Callable[[int], Tensor], cache: Any, first: int, end: int, reach: int
    ) -> None:
        self._model, self._first, self._reach = model, first, reach
        self._session = Sam2VideoInferenceSession(dtype=torch.float32)
        self._session.processed_frames = _Frames(picture, first, end)
        self._session.cache = cache
        self._number = self._session.obj_id_to_idx(1)
        self.start = end

    def tell(
        self, index: int, *, mask: Tensor | None = None, points: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        """Condition the memory on a frame: by a mask (1, 1, side, side), or by points (1, 1, n, 2) and their labels."""
        frame = index - self._first
        if mask is not None:
            self._session.add_mask_inputs(self._number, frame, mask)
        else:
            self._session.add_point_inputs(self._number, frame, {"point_coords": points, "point_labels": labels})
        self._session.obj_with_new_inputs = [1]
        self._model(self._session, frame_idx=frame)
        self.start = min(self.start, index)
        self._outputs("cond_frame_outputs")[frame].pop("high_res_masks", None)

    def step(self, index: int, *, reverse: bool) -> tuple[Tensor, float]:
        """Logits (1, 1, h, w) on a frame, and the model's logit that the object is there."""
        frame = index - self._first
        out = self._model(self._session, frame_idx=frame, reverse=reverse)
        kept = self._outputs("non_cond_frame_outputs")
        if frame in kept:
            kept[frame].pop("high_res_masks", None)
        # The walk back starts on what lies just after its start, so that much is kept of the walk ahead.
        near = range(self.start - self._first, self.start - self._first + self._reach)
        for old in [f for f in kept if abs(f - frame) > self._reach and f not in near]:
            del kept[old]
        return out.pred_masks.float(), float(out.object_score_logits.reshape(-1)[0])

    def _outputs(self, which: str) -> dict[int, dict[str, Any]]:
        outputs: dict[int, dict[str, Any]] = self._session.output_dict_per_obj[self._number][which]
        return outputs


class _Frames:
    """A session's frames, brought when they are asked for and kept by nobody."""

    def __init__(self, picture: Callable[[int], Tensor], first: int, end: int) -> None:
        self._picture, self._first, self._count = picture, first, end - first

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, frame: int) -> Tensor:
        return self._picture(self._first + frame)


def scene_breaks(frames: Sequence[int], cuts: Sequence[int]) -> list[int]:
    """Indices of the first frames after cuts."""
    return [bisect_left(frames, cut) for cut in sorted(cuts)]
