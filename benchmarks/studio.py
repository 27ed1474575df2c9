"""A studio's own roto net, and what it is worth as the start of a fit on a shot that it never saw.

    python -m benchmarks.studio [--seeds 0 1 2] [--keep FOLDER]

For each seed the real trainer learns from the eleven footage/train_* shots, blackswan, camel and dance-twirl, and the real runner fits
the dog with that seed from ImageNet's weights and from the studio's: 1 key and 3, 50, 100 and 300 steps. Without a step the studio's
net answers as it is, beside flow alone. J and boundary F are of all frames that no key gave away.

A training has PLATEWRIGHT_THREADS threads, two if that isn't set; the fits have one each, two at a time. With `--keep` weights and
results stay in a folder, and a run that was stopped goes on; they are for measuring alone: nothing that was learned from that footage
may be shipped. The footage lies in PLATEWRIGHT_DATA, or beside the checkout in ../shared/data; without it this says so and stops.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.roto import data_root, load_shot, machine, run_shot, show_progress
from pipeline.memory_shot import CURVE, MemoryFinishedShot
from pipeline.models.checkpoints import FolderCheckpoints
from pipeline.models.loader import threads
from pipeline.tasks.contract import ModelRef
from pipeline.tasks.roto.definition import RotoParameters, RotoTrainingParameters
from pipeline.tasks.roto.trainer import RotoTrainer
from pipeline.tasks.training import WEIGHTS, FinishedShot

TRAINED_ON = (
    "train_breakdance",
    "train_car-roundabout",
    "train_drift-chicane",
    "train_drift-straight",
    "train_goat",
    "train_horsejump-high",
    "train_kite-surf",
    "train_paragliding-launch",
    "train_parkour",
    "train_scooter-black",
    "train_soapbox",
    "roto_blackswan",
    "roto_camel",
    "roto_dance-twirl",
)
UNSEEN = "dog"
KEYS = (1, 3)
STEPS = (0, 50, 100, 300)
PROTOTYPE = {
    (1, "imagenet"): (0.526, 0.622, 0.626, 0.855),
    (1, "studio"): (0.710, 0.741, 0.832, 0.904),
    (3, "imagenet"): (0.765, 0.834, 0.913, 0.943),
    (3, "studio"): (0.830, 0.904, 0.935, 0.946),
}
"""J&F of the prototype by keys and start, after STEPS; one seed. Of ImageNet's start at 0 it is flow alone."""
LONGEST_S = 600.0


class _Frames(Mapping[int, NDArray[np.generic]]):
    """Frames that are read when they are asked for, as a version's are."""

    def __init__(self, paths: Mapping[int, Path], read: Callable[[Path], NDArray[np.generic]]) -> None:
        self._paths, self._read = paths, read

    def __getitem__(self, frame: int) -> NDArray[np.generic]:
        return self._read(self._paths[frame])

    def __iter__(self) -> Iterator[int]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


@dataclass(slots=True, kw_only=True)
class Training:
    """A trainer's context. Keeps `pipeline.tasks.training.TrainingContext`."""

    parameters: RotoTrainingParameters
    seed: int
    shots: Sequence[FinishedShot]
    folder: Path
    checkpoints: FolderCheckpoints

    def progress(self, fraction: float, note: str = "") -> None:
        """See TrainingContext.progress."""
        show_progress(fraction, note)


@dataclass(frozen=True, slots=True)
class Fit:
    """One fit of the unseen shot, and its J&F when it is done."""

    start: str
    keys: int
    steps: int
    seed: int
    jf: float = 0.0
    cpu_s: float = 0.0

    @property
    def what(self) -> tuple[str, int, int, int]:
        """Which it is."""
        return self.start, self.keys, self.steps, self.seed


def finished_shot(name: str) -> MemoryFinishedShot:
    """A shot of the footage with its true mattes, read from disk frame by frame."""
    folder = data_root() / "footage" / name
    table = CURVE.inverse((np.arange(256) / 255).astype(np.float32)).astype(np.float16)
    pictures = {1001 + i: path for i, path in enumerate(sorted((folder / "frames").glob("*.jpg")))}
    masks = {frame: folder / "masks" / f"{path.stem}.png" for frame, path in pictures.items()}

    def picture(path: Path) -> NDArray[np.generic]:
        found = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert found is not None, f"{path} can't be read"
        return table[found].transpose(2, 0, 1)

    def matte(path: Path) -> NDArray[np.generic]:
        found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert found is not None, f"{path} can't be read"
        return (found > 127).astype(np.float32)

    return MemoryFinishedShot(
        name=name,
        plate=_Frames(pictures, picture),  # type: ignore[arg-type]  # half, which `linear` makes float
        layers={"matte": _Frames(masks, matte)},  # type: ignore[dict-item]  # float, as `matte` gives it
    )


def train(seed: int, folder: Path, parameters: RotoTrainingParameters) -> dict[str, float]:
    """Train in `folder`, unless that was done. Returns what it took, reading and flow included."""
    done = folder / "training.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        training = Training(
            parameters=parameters,
            seed=seed,
            shots=[finished_shot(name) for name in TRAINED_ON],
            folder=folder,
            checkpoints=FolderCheckpoints(folder / "states"),
        )
        wall, cpu = time.perf_counter(), time.process_time()
        facts = RotoTrainer().train(training, ModelRef())
        took = {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "threads": threads(),
            "load": os.getloadavg()[0],
        }
        done.write_text(json.dumps({**facts, **took}), encoding="utf-8")
    return dict(json.loads(done.read_text(encoding="utf-8")))


def fit(todo: Fit, weights: Path | None) -> Fit:
    """Fit the unseen shot and measure. In a process of its own."""
    os.environ["PLATEWRIGHT_THREADS"] = "1"
    plate, truth = load_shot(UNSEEN)
    result = run_shot(
        plate,
        truth,
        keys=todo.keys,
        parameters=RotoParameters(iterations=todo.steps),
        seed=todo.seed,
        model=ModelRef(path=weights),
    )
    return Fit(*todo.what, jf=result.score.jf, cpu_s=result.fit_cpu_s)


def fit_all(folder: Path, seeds: Sequence[int]) -> list[Fit]:
    """All fits that `folder` has no result of, two at a time, and then all that it has."""
    kept = folder / "fits.jsonl"
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    found = {fit.what: fit for fit in (Fit(**json.loads(line)) for line in lines)}
    todo = [
        Fit(start, keys, steps, seed)
        for seed in seeds
        for keys in KEYS
        for steps in reversed(STEPS)
        for start in ("studio", "imagenet")
        if steps or start == "studio" or seed == seeds[0]  # flow alone knows no seed
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        weights = {seed: folder / str(seed) / WEIGHTS for seed in seeds}
        running = [
            pool.submit(fit, one, weights[one.seed] if one.start == "studio" else None)
            for one in todo
            if one.what not in found
        ]
        for number, future in enumerate(as_completed(running), 1):
            one = future.result()
            found[one.what] = one
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(one)) + "\n")
            show_progress(number / len(running), f"fit {number}/{len(running)}")
    return list(found.values())


def _seeds_of(fits: Sequence[Fit], start: str, keys: int, steps: int) -> list[float]:
    """J&F by seed."""
    return [f.jf for f in sorted(fits, key=lambda f: f.seed) if (f.start, f.keys, f.steps) == (start, keys, steps)]


def print_table(fits: Sequence[Fit]) -> None:
    """Every start after every number of steps, and the bars."""
    print("keys  start     steps | J&F mean  by seed              | prototype | fit CPU s")
    for keys in KEYS:
        for start in ("imagenet", "studio"):
            for steps, prototype in zip(STEPS, PROTOTYPE[keys, start], strict=True):
                each = _seeds_of(fits, start, keys, steps)
                cpu = np.mean([f.cpu_s for f in fits if (f.start, f.keys, f.steps) == (start, keys, steps)])
                name = "flow" if start == "imagenet" and not steps else start
                seeds = " ".join(f"{jf:.3f}" for jf in each)
                print(
                    f"{keys:4}  {name:9} {steps:5} | {np.mean(each):.3f}     {seeds:20} | {prototype:.3f}     | {cpu:.0f}"
                )
    for keys in KEYS:
        at = {
            (start, steps): float(np.mean(_seeds_of(fits, start, keys, steps)))
            for start in ("imagenet", "studio")
            for steps in STEPS
        }
        _print_bar(f"{keys} key(s), 0 steps: over flow alone", at["studio", 0] - at["imagenet", 0], 0.05)
        _print_bar(f"{keys} key(s), 100 steps: over ImageNet's", at["studio", 100] - at["imagenet", 100], 0.02)
        _print_bar(f"{keys} key(s), 100 steps: against ImageNet's 300", at["studio", 100] - at["imagenet", 300], -0.03)


def _print_bar(what: str, is_: float, least: float) -> None:
    print(f"{what:44} {is_:+.3f}, bar {least:+.2f}: {'met' if is_ >= least else 'MISSED'}")


def main() -> int:
    """Train, fit and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=RotoTrainingParameters().iterations)
    parser.add_argument("--keep", type=Path, help="a folder for weights and results")
    options = parser.parse_args()
    wanted = [*TRAINED_ON, f"roto_{UNSEEN}"]
    if missing := [name for name in wanted if not (data_root() / "footage" / name).is_dir()]:
        print(f"skipped: no footage of {', '.join(missing)} in {data_root()}; set PLATEWRIGHT_DATA to where it lies")
        return 0
    os.environ.setdefault("PLATEWRIGHT_THREADS", "2")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        for seed in options.seeds:
            took = train(seed, folder / str(seed), RotoTrainingParameters(iterations=options.iterations))
            print(
                f"training, seed {seed}: {took['shots']} shots, {took['frames']} frames, {took['iterations']} steps; reading and flow "
                f"{took['read_s']:.0f} s, all {took['wall_s']:.0f} s (bar {LONGEST_S:.0f}), {took['cpu_s']:.0f} CPU s; "
                f"{took['threads']} thread(s), load {took['load']:.1f}; loss {took['loss']:.3f}",
                flush=True,
            )
        print_table(fit_all(folder, options.seeds))
    print(machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
