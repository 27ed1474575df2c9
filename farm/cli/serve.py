"""Commands that stay: the dispatcher, a worker, the watch folder."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click


def _logging() -> None:
    """Logs to stderr, as one line each: stdout is for results."""
    import structlog

    renderer: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    shared: list[Any] = [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every start


@click.command()
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port (default 8763).")
@click.option("--data", type=click.Path(path_type=Path), help="The dispatcher's own folder: database, token, logs.")
@click.option(
    "--publish-root", type=click.Path(path_type=Path), help="Where versions go, unless a submission says otherwise."
)
@click.option(
    "--root",
    "roots",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder whose files may be used; again for each.",
)
@click.option(
    "--workers", type=click.IntRange(0), default=0, show_default=True, help="Also keep this many workers alive here."
)
@click.option("--tls-cert", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def serve(workers: int, roots: tuple[Path, ...], **given: Any) -> None:
    """Start the dispatcher and its page."""
    from farm.serving import run_server
    from farm.settings import FarmSettings

    _logging()
    settings = FarmSettings.read(roots=roots or None, **given).checked()
    run_server(settings, workers=workers, say=lambda line: click.echo(line, err=True))


@click.command()
@click.option("--name", help="What it is called; host and process if not given.")
@click.option("--pool", "pools", multiple=True, help="A pool that it works for; again for each (default: default).")
@click.option("--tag", "tags", multiple=True, help="A word to know it by; gpus=2, hour_price=3.20.")
@click.option("--memory", "memory_mb", type=click.IntRange(64), help="What a session may use at most, in MB.")
@click.option("--warm", multiple=True, help="Task to load before the first chunk comes (default: roto).")
@click.option("--once", is_flag=True, help="Stop when no work is left.")
@click.option("--parent-pipe", is_flag=True, hidden=True, help="Stop when stdin closes: whoever started it is gone.")
def worker(
    name: str | None,
    pools: tuple[str, ...],
    tags: tuple[str, ...],
    memory_mb: int | None,
    warm: tuple[str, ...],
    once: bool,
    parent_pipe: bool,
) -> None:
    """Start a worker. It needs the extra `worker`: pip install 'platewright[worker]'."""
    from farm.cli.connect import connect, settings
    from farm.prices import price_of, tags_of
    from farm.worker import Worker, WorkerConfig, default_name
    from pipeline import __version__
    from pipeline.publish.signing import signing_identity

    _logging()
    # Here already: a worker that can't sign would fail each job at its end, one without a price be given none.
    signing_identity()
    price_of(tags_of(tags), settings())
    config = WorkerConfig(
        name=name or default_name(),
        pools=pools or ("default",),
        tags=tags,
        memory_mb=memory_mb or 0,
        warm=warm or ("roto",),
        once=once,
    )
    working = Worker(connect(), config, version=__version__)

    def stop(*_: object) -> None:
        working.shut_down()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if parent_pipe:
        threading.Thread(target=_until_eof, args=(stop,), daemon=True).start()
    click.echo(f"worker {config.name} for {', '.join(config.pools)}", err=True)
    working.run()


def _until_eof(then: Any) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    then()


@click.command()
@click.argument("inbox", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--settle",
    "settle_s",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds without change that mean: arrived.",
)
@click.option(
    "--rescan",
    "rescan_s",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Seconds between looks, whatever events say.",
)
@click.option("--polling", is_flag=True, help="For NFS and SMB, which send no events.")
def watch(inbox: Path, settle_s: float, rescan_s: float, polling: bool) -> None:
    """Turn what is dropped into INBOX into jobs: see docs/watch_folder.md."""
    from farm.cli.connect import connect
    from farm.cli.submit import SUBMIT_TIMEOUT_S
    from farm.watch import Inbox

    _logging()
    client = connect(SUBMIT_TIMEOUT_S)

    def submit(request: dict[str, Any], key: str) -> dict[str, Any]:
        reply: dict[str, Any] = client.request("POST", "/v1/jobs", request, headers={"Idempotency-Key": key})
        return reply

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    inbox.mkdir(parents=True, exist_ok=True)
    click.echo(f"watching {inbox}", err=True)
    try:
        Inbox(inbox.absolute(), submit, settle_s=settle_s).run(stop, rescan_s=rescan_s, polling=polling)
    except KeyboardInterrupt:
        stop.set()
