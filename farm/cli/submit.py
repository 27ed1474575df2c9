"""`plates submit TASK` and `plates run TASK`: the same options, drawn from the task's form."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from farm.cli.amounts import estimate_line, spent_line
from farm.cli.main import EXIT_FAILED, EXIT_OK

if TYPE_CHECKING:
    from pipeline.jobs.spec import JobRequest

_ENDED = ("succeeded", "failed", "cancelled")
SUBMIT_TIMEOUT_S = 900.0
"""A submission decodes every frame before it is accepted; a long plate takes its time."""


class _PerTask(click.Group):
    """A group with one command for each installed task."""

    def __init__(
        self,
        name: str,
        help: str,
        options: Callable[[], list[click.Option]],
        act: Callable[[str, dict[str, Any]], None],
    ) -> None:
        super().__init__(name=name, help=help)
        self._options = options
        self._act = act

    def list_commands(self, ctx: click.Context) -> list[str]:
        from farm.cli.options import known_tasks

        return known_tasks()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from farm.cli.options import common_options, known_tasks, task_options
        from pipeline.tasks.registry import task

        if cmd_name not in known_tasks():
            return None
        definition = task(cmd_name)

        def act(**given: Any) -> None:
            self._act(cmd_name, given)

        return click.Command(
            cmd_name,
            params=[*common_options(), *task_options(definition), *self._options()],
            callback=act,
            help=definition.help,
        )


def _submit_options() -> list[click.Option]:
    return [
        click.Option(["--priority"], type=click.IntRange(0, 100), help="0 to 100, higher is sooner (default 50)."),
        click.Option(["--pool"], help="Which workers may do it."),
        click.Option(
            ["--preset"], metavar="NAME", help="A preset of the show's: its parameters lie beneath those given."
        ),
        click.Option(["--once"], metavar="KEY", help="The same key is the same job, however often it is sent."),
        click.Option(["--wait"], is_flag=True, help="Stay until the job has ended."),
        click.Option(["--dry-run"], is_flag=True, help="Check everything, show the plan, start nothing."),
        click.Option(["--json", "as_json"], is_flag=True, help="One JSON object on stdout."),
    ]


def _run_options() -> list[click.Option]:
    return [click.Option(["--json", "as_json"], is_flag=True, help="One JSON object on stdout.")]


def _submit(task_name: str, given: dict[str, Any]) -> None:
    from farm.cli.connect import connect
    from farm.cli.options import request_body
    from pipeline.tasks.registry import task

    client = connect(SUBMIT_TIMEOUT_S)
    body = request_body(task(task_name), given)
    hand_in(client, "/v1/jobs", body, given)


def hand_in(client: Any, path: str, body: dict[str, Any], given: dict[str, Any]) -> None:
    """POST what makes a job, and tell of it as the command's options ask: `dry_run`, `once`, `wait`, `as_json`."""
    if given["dry_run"]:
        plan = client.post(f"{path}?dry_run=true", body)
        _print_plan(plan, given["as_json"])
        return
    key = given["once"] or f"cli-{uuid.uuid4()}"
    reply = client.request("POST", path, body, headers={"Idempotency-Key": key})
    if not reply["created"]:
        click.echo(f"this is job {reply['job']} already", err=True)
    for warning in reply["warnings"]:
        click.echo(f"note: {warning}", err=True)
    more = f" and {reply['takes'] - 1} more takes" if reply["takes"] > 1 else ""
    click.echo(f"job {reply['job']} will publish {reply['version']}{more}, frames {reply['frames']}", err=True)
    if "estimate" in reply:
        click.echo(estimate_line(reply["estimate"]), err=True)
    if not given["wait"]:
        click.echo(json.dumps(reply) if given["as_json"] else str(reply["job"]))
        return
    try:
        ended = follow(client, reply["job"])
    except KeyboardInterrupt:
        click.echo(f"\njob {reply['job']} goes on; plates cancel {reply['job']} stops it", err=True)
        raise
    finish(ended, as_json=given["as_json"])


def follow(client: Any, job: int) -> dict[str, Any]:
    """Show a job's progress until it has ended. A dispatcher that goes away for a while is waited for."""
    from integrations._shared.client import DispatcherError

    say, shown, failures = _Progress(), "", 0
    while True:
        try:
            view = client.get(f"/v1/jobs/{job}", timeout_s=10)["job"]
            if view["state"] in _ENDED:
                result: dict[str, Any] = client.get(f"/v1/jobs/{job}/result", timeout_s=30)
                return result
            failures = 0
        except DispatcherError as error:
            failures += 1
            if not (error.unreachable or error.status in (500, 503)) or failures > 150:
                raise
            time.sleep(min(2.0, 0.2 * failures))
            continue
        line = progress_line(view)
        if line != shown:
            say(line)
            shown = line
        time.sleep(0.3)


def progress_line(view: dict[str, Any]) -> str:
    """One line on how far a job is."""
    counted: dict[str, list[int]] = {}
    for step in view["steps"]:  # every take's
        sums = counted.setdefault(step["name"], [0, 0])
        sums[0] += step["done"]
        sums[1] += step["total"]
    steps = "  ".join(f"{name} {done}/{total}" for name, (done, total) in counted.items())
    message = f"  {view['message']}" if view["message"] else ""
    return f"{view['state']:9} {view['progress'] * 100:5.1f} %  {steps}{message}"


class _Progress:
    """On a terminal one line that is rewritten; elsewhere, such as in a farm's log, a line every few seconds."""

    _EVERY_S = 5.0

    def __init__(self) -> None:
        self._said_at = 0.0
        self._what = ""

    def __call__(self, line: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{line}", nl=False, err=True)
            return
        now, what = time.monotonic(), line.split(" ", 1)[0]
        if now - self._said_at >= self._EVERY_S or what != self._what:
            self._said_at, self._what = now, what
            click.echo(line, err=True)


def finish(ended: dict[str, Any], *, as_json: bool) -> None:
    """Print what became of a job and end with its exit code."""
    if sys.stderr.isatty():
        click.echo("", err=True)
    if as_json:
        click.echo(json.dumps(ended))
    elif ended["state"] == "succeeded":
        for version in [take["version"] for take in ended["takes"] if take["version"]] or [ended["version"]]:
            click.echo(f"published {version['name']}")
            click.echo(
                f"  {version['pattern']}  {version['frames']}  {' '.join(version['layers'])}  {version['colorspace']}"
            )
        confidences = [f["confidence"] for f in ended["report"]["frames"] if "confidence" in f]
        if confidences:
            click.echo(f"  confidence {sum(confidences) / len(confidences):.3f} mean, {min(confidences):.3f} lowest")
        if ended["report"].get("next_key") is not None:
            click.echo(f"  paint frame {ended['report']['next_key']} next")
        click.echo(spent_line(ended["cost"], ended["estimate"]), err=True)
    else:
        click.echo(f"job {ended['job']} {ended['state']}: {ended['message']}", err=True)
        if ended["hint"]:
            click.echo(f"  {ended['hint']}", err=True)
        if ended["cost"]["machine_s"]:
            click.echo(spent_line(ended["cost"]), err=True)
    sys.exit(EXIT_OK if ended["state"] == "succeeded" else EXIT_FAILED)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Keep stdout for the result: C libraries print their warnings there."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _print_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(plan))
        return
    spec = plan["spec"]
    click.echo(
        f"{spec['task']} of {spec['show']}/{spec['shot']}, frames {spec['frames']}, published under {spec['publish_root']}"
    )
    for step in plan["steps"]:
        after = f" after {', '.join(step['after'])}" if step["after"] else ""
        click.echo(f"  {step['step']}: {step['chunks']} chunk{'s' if step['chunks'] != 1 else ''}{after}")
    if "estimate" in plan:
        click.echo(f"  {estimate_line(plan['estimate'])}")


def _checked(body: dict[str, Any]) -> JobRequest:
    """The request, if it has the shape of one. Raises: SubmissionRefused, as a dispatcher would answer."""
    from pydantic import ValidationError

    from pipeline.errors import Fault, SubmissionRefused
    from pipeline.jobs.spec import JobRequest

    try:
        return JobRequest.model_validate(body)
    except ValidationError as error:
        faults = [Fault(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        raise SubmissionRefused(faults) from error


def _run(task_name: str, given: dict[str, Any]) -> None:
    from farm.cli.options import request_body
    from farm.whole import run_whole
    from pipeline.tasks.registry import task

    request = _checked(request_body(task(task_name), given))
    with _stdout_to_stderr():
        ended = run_whole(request, say=_Progress())
    finish(ended, as_json=given["as_json"])


submit = _PerTask("submit", "Hand a plate to the dispatcher, as work for a task.", _submit_options, _submit)
run = _PerTask(
    "run",
    "Do a whole job in this process, without a dispatcher: the same checks, steps and publish.",
    _run_options,
    _run,
)
