"""What travels between dispatcher, workers and clients. The assignment is also what a worker hands to its session child."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from farm.states import FailureKind
from pipeline.rules import ClearanceKind


class Wire(BaseModel):
    """Base of every body: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Hello(Wire):
    """What a worker says of itself with every claim."""

    host: str = Field(max_length=255)
    version: str = Field(max_length=64)
    pools: tuple[str, ...] = ("default",)
    tags: tuple[str, ...] = ()
    memory_mb: int = Field(ge=0, lt=2**63)
    warm: str = Field("", max_length=256)
    """Identity of the model that its session holds."""


class ClaimBody(Wire):
    """Ask for work; the answer may take up to `wait_s`."""

    hello: Hello
    wait_s: float = Field(0.0, ge=0, le=60)


class ChunkRef(Wire):
    """A chunk at one attempt. The attempt number is the fencing token: an older one changes nothing."""

    chunk_id: int = Field(ge=0, lt=2**63)
    attempt: int = Field(ge=0, lt=2**63)


class CompleteBody(ChunkRef):
    """A chunk is done; with `hello`, the next one is claimed in the same call."""

    result: dict[str, Any] = Field(default_factory=dict)
    log: tuple[str, ...] = ()
    hello: Hello | None = None


class FailBody(ChunkRef):
    """A chunk failed. `kind` decides what happens next: see docs/worker_protocol.md."""

    kind: FailureKind
    message: str = Field(max_length=4000)
    hint: str = Field("", max_length=4000)
    log: tuple[str, ...] = ()


class PreviewNote(Wire):
    """A small early picture that a session has written into the job's preview folder."""

    frame: int
    path: str


class ProgressBody(ChunkRef):
    """A sign of life, a few times a second at most. `advanced` says whether the session did anything since the last one."""

    fraction: float = Field(0.0, ge=0, le=1)
    note: str = Field("", max_length=500)
    done_frames: str = Field("", max_length=100_000)
    advanced: bool = True
    previews: tuple[PreviewNote, ...] = ()
    log: tuple[str, ...] = ()


class Told(Wire):
    """Base of what a worker is told: unknown fields are passed over, so that a newer dispatcher can say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class InputFolder(Told):
    """The accepted result of a chunk of an earlier step."""

    step: str
    index: int
    frames: str
    folder: str


class VersionRef(Told):
    """The version number that was reserved at submit."""

    name: str
    number: int
    product: str
    folder: str


class Assignment(Told):
    """One chunk for one worker, complete: nothing else has to be asked to do it.

    The fields of `farm.records.Assignment`, and two that only whoever does the work needs.
    """

    chunk_id: int
    attempt: int
    job_id: int
    take: int
    step: Literal["fit", "infer", "publish", "compare", "train", "score", "register"]
    index: int
    frames: str
    context: str
    spec_json: str
    """A `JobSpec` or a `TrainingSpec`, as it was kept."""
    folder: str
    """This attempt's own folder: only an accepted `complete` makes it count."""
    inputs: tuple[InputFolder, ...] = ()
    version: VersionRef | None = None
    lease_s: float
    no_progress_s: float
    memory_mb: int
    model: str
    preview_folder: str
    proxy: dict[str, Any] = Field(default_factory=dict)
    """How review proxies are made: `height`, `view`, `config`, `cache`; empty for none."""


class ActBody(Wire):
    """What an act on a job may name: nothing means all of the job."""

    chunk: int | None = Field(None, ge=0, lt=2**63)
    frames: str | None = Field(None, max_length=4096)
    priority: int | None = Field(None, ge=0, le=100)


class TokenBody(Wire):
    """A token to be made."""

    name: str = Field(min_length=1, max_length=64)
    scopes: tuple[Literal["submit", "review", "wrangle", "worker", "admin"], ...] = Field(
        ("submit", "review"), min_length=1
    )


class ReviewBody(Wire):
    """What somebody says of a version. `value`: 1, or 0 to take it back; of a rating 1 to 5; of a note nothing."""

    kind: Literal["pick", "rate", "note", "approve"]
    value: int = Field(1, ge=0, le=5)
    text: str = Field("", max_length=4000)

    @model_validator(mode="after")
    def _a_rating_says_how_good(self) -> Self:
        if self.kind == "rate" and "value" not in self.model_fields_set:
            raise ValueError("a rating needs its value, 1 to 5; 0 takes it back")
        return self


class PresetBody(Wire):
    """Parameters to be kept under a name; with `version`, over those that made it."""

    name: str = Field(max_length=64)
    task: str = Field("", max_length=64)
    show: str = Field("", max_length=64)
    version: int | None = Field(None, ge=0, lt=2**63)
    parameters: dict[str, Any] = Field(default_factory=dict)
    model: str = Field("", max_length=4096)


class RecallBody(Wire):
    """What shall differ from the version that is made again."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    use: Literal["temp", "final"] | None = None


class SubmitReply(Wire):
    """A job was accepted, or the same one found again."""

    job: int
    created: bool
    state: str
    version: str
    """What the first take will be."""
    takes: int
    frames: str
    warnings: tuple[str, ...] = ()
    estimate: dict[str, Any] | None = None
    """What it will cost, by history; None while there is none."""
    use: str = ""
    url: str = ""


class AddModelBody(Wire):
    """Weights on a local path that are to have a card."""

    task: str = Field(max_length=64)
    name: str = Field(min_length=1, max_length=64)
    path: str = Field(min_length=1, max_length=4096)
    licence: str = Field(min_length=1, max_length=64)
    """An SPDX identifier, or LicenseRef-…"""
    base: str = Field("", max_length=4096)
    """For a LoRA: the card of what it goes with."""
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    source: str = Field("", max_length=4000)
    """Where they come from."""
    note: str = Field("", max_length=4000)


class PromoteBody(Wire):
    """A model is to be what an alias stands for. `override`: why, where it didn't win."""

    alias: str = Field("production", min_length=1, max_length=64)
    override: str = Field("", max_length=4000)


class RollbackBody(Wire):
    """An alias is to stand for what it stood for before."""

    task: str = Field(max_length=64)
    alias: str = Field("production", min_length=1, max_length=64)


class RetireBody(Wire):
    """A model is to be taken out of use, or with `undo` back into it."""

    undo: bool = False


class ClearanceBody(Wire):
    """A yes to be recorded; sequence and shot empty for all of them."""

    kind: ClearanceKind
    show: str = Field(min_length=1, max_length=64)
    sequence: str = Field("", max_length=64)
    shot: str = Field("", max_length=64)
    by: str = Field("", max_length=128)
    reference: str = Field("", max_length=500)
    note: str = Field("", max_length=4000)


class ReplayBody(Wire):
    """A version is to be made again, for comparison. An empty pool takes that of the version's job."""

    pool: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9.\-]{0,63})?$")
    priority: int = Field(50, ge=0, le=100)
