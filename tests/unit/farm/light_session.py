"""A session without a model: it does what the assignment's spec says, step by step, over the real protocol.

The spec is `{"acts": [[name, value…], …]}`. Started by a worker with `session_module="tests.unit.farm.light_session"`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from farm.child import ParentLink


def main() -> None:
    link = ParentLink()
    cancelled = threading.Event()

    def on_message(message: dict[str, Any]) -> bool:
        if message.get("do") == "cancel":
            cancelled.set()
            return True
        return False

    link.on_message = on_message
    link.start()
    link.send({"event": "warm", "identity": "light:1"})
    link.send({"event": "ready"})
    while True:
        assignment = link.messages.get()["assignment"]
        cancelled.clear()
        for act, *values in json.loads(assignment["spec_json"])["acts"]:
            if not perform(act, values, link, cancelled):
                break


def perform(act: str, values: list[Any], link: ParentLink, cancelled: threading.Event) -> bool:
    """One act. Returns whether to go on with the next."""
    match act:
        case "progress":
            link.send({"event": "progress", "fraction": values[0], "note": "light"})
        case "frames":
            link.send({"event": "frames", "done": values[0]})
        case "preview":
            link.send({"event": "preview", "frame": values[0], "path": "/p"})
        case "log":
            for line in values:
                print(line, file=sys.stderr, flush=True)
        case "sleep":
            time.sleep(values[0])
        case "until":
            while not Path(values[0]).exists():
                time.sleep(0.01)
        case "until cancelled":
            cancelled.wait()
            link.send({"event": "cancelled"})
            return False
        case "die":
            os.kill(os.getpid(), values[0])
        case "grow":
            kept = bytearray(values[0] << 20)
            kept[::4096] = b"x" * len(kept[::4096])
            time.sleep(60)
        case "done":
            link.send({"event": "done", "result": {"pid": os.getpid(), **values[0]}, "warm": "light:1"})
        case "fail":
            link.send({"event": "failed", "kind": values[0], "message": "no luck", "hint": "try again"})
    return True


if __name__ == "__main__":
    main()
