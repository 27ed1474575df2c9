"""`plates`: the command line. Commands are imported when they are called, so that help comes at once."""

from __future__ import annotations

import importlib
import json
import sys
from typing import NoReturn

import click

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130

COMMANDS = {
    "submit": ("farm.cli.submit:submit", "Hand a plate to the dispatcher."),
    "run": ("farm.cli.submit:run", "Do a whole job here and now, without a dispatcher."),
    "jobs": ("farm.cli.look:jobs", "List jobs."),
    "status": ("farm.cli.look:status", "How the dispatcher, or one job, is doing."),
    "log": ("farm.cli.look:log", "The log of a job's attempts."),
    "versions": ("farm.cli.look:versions", "List published versions."),
    "provenance": (
        "farm.cli.provenance:provenance",
        "Verify a published version: its frames, its record, who signed it.",
    ),
    "sheet": ("farm.cli.look:sheet", "Write the contact sheet of a job's takes."),
    "usage": ("farm.cli.usage:usage", "What was spent on what, and how good estimates were."),
    "open": ("farm.cli.look:open_page", "The address of the page, signed in."),
    "cancel": ("farm.cli.act:cancel", "Stop jobs for good."),
    "pause": ("farm.cli.act:pause", "Let jobs wait."),
    "resume": ("farm.cli.act:resume", "Let paused jobs go on."),
    "retry": ("farm.cli.act:retry", "Try failed work again."),
    "skip": ("farm.cli.act:skip", "Leave work out and go on."),
    "priority": ("farm.cli.act:priority", "Move jobs forward or back."),
    "approve": ("farm.cli.taste:approve", "Say that a version is finished."),
    "pick": ("farm.cli.taste:pick", "Pick the take to go on with."),
    "rate": ("farm.cli.taste:rate", "Rate a version, 1 to 5."),
    "note": ("farm.cli.taste:note", "Write a note on a version, or read what was said of it."),
    "presets": ("farm.cli.taste:presets", "Named parameters of a show, the favourites first."),
    "recall": ("farm.cli.taste:recall", "Make a version again, as it was or with changes."),
    "form": ("farm.cli.look:form", "A task's parameters."),
    "edit": ("farm.cli.edit:command", "Show what a timeline asks of its clips."),
    "rules": ("farm.cli.rules:rules", "What a show allows, and whether its rule files can be used."),
    "replay": ("farm.cli.replay:replay", "Make a version again and compare it, bit for bit."),
    "models": ("farm.cli.models:models", "The studio's own models: train, judge, promote."),
    "clear": ("farm.cli.clear:clear", "Record who said yes to what."),
    "tokens": ("farm.cli.tokens:tokens", "Tokens for people, hosts and workers."),
    "serve": ("farm.cli.serve:serve", "Start the dispatcher and its page."),
    "worker": ("farm.cli.serve:worker", "Start a worker."),
    "watch": ("farm.cli.serve:watch", "Turn what is dropped into an inbox into jobs."),
    "doctor": ("farm.cli.doctor:doctor", "Check that everything is in place."),
}
"""Command → where it lives and what it does; the order is that of the help."""


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="platewright", prog_name="plates")
def cli() -> None:
    """Platewright: plates and their place in the cut go to the studio's own models; validated, versioned EXR plates come back."""


def fail(
    message: str,
    hint: str = "",
    *,
    code: int = EXIT_FAILED,
    faults: object = (),
    error: str = "",
    as_json: bool = False,
) -> NoReturn:
    """Say what went wrong and what to do, on stderr, and end. With `as_json`, also as one object on stdout."""
    if as_json:
        body = {"error": error, "message": message, "hint": hint, "faults": faults}
        click.echo(json.dumps(body))
    listed = [f for f in faults if isinstance(f, dict)] if isinstance(faults, list | tuple) else []
    if listed:
        click.echo("refused:", err=True)
        for fault in listed:
            click.echo(f"  {fault['where']}: {fault['message']}", err=True)
            if fault.get("hint"):
                click.echo(f"      {fault['hint']}", err=True)
    else:
        click.echo(f"error: {message}", err=True)
        if hint:
            click.echo(f"  {hint}", err=True)
    sys.exit(code)


def main() -> None:
    """The entry point: runs a command and turns every error that a person can act on into words and an exit code."""
    as_json = "--json" in sys.argv
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        _known(error, as_json)
        raise


def _known(error: Exception, as_json: bool) -> None:
    """End with words for the errors that we know; return for the others, which are our bugs and keep their traceback."""
    from integrations._shared.client import DispatcherError
    from pipeline.errors import AuthError, PipelineError, ServerError, SubmissionRefused

    if isinstance(error, SubmissionRefused):
        faults = [{"where": f.where, "message": f.message, "hint": f.hint} for f in error.faults]
        fail(error.message, error.hint, code=EXIT_REFUSED, faults=faults, error="SubmissionRefused", as_json=as_json)
    if isinstance(error, DispatcherError):
        refused = error.status in (400, 409, 422)
        code = (
            EXIT_UNREACHABLE if error.unreachable or error.status >= 500 else EXIT_REFUSED if refused else EXIT_FAILED
        )
        fail(error.message, error.hint, code=code, faults=error.faults, error=error.error, as_json=as_json)
    if isinstance(error, PipelineError):
        code = (
            EXIT_UNREACHABLE
            if isinstance(error, ServerError)
            else EXIT_FAILED
            if isinstance(error, AuthError)
            else EXIT_REFUSED
        )
        fail(error.message, error.hint, code=code, error=type(error).__name__, as_json=as_json)


if __name__ == "__main__":
    main()
