"""A child that does to its parent what real ones may: `python -m tests.unit.farm.odd_child`."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any

from farm.child import ParentLink


def main() -> None:
    link = ParentLink()
    link.start()
    while True:
        message = link.messages.get()
        match message["do"]:
            case "echo":
                link.send({"echo": message["what"]})
            case "die":
                os.kill(os.getpid(), message["signal"])
            case "exit":
                sys.exit(message["code"])
            case "hang":
                time.sleep(600)
            case "spin":
                while True:
                    pass
            case "garbage":
                garbage(link)
            case "grow":
                resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
                kept: list[Any] = []
                try:
                    while True:
                        kept.append(bytearray(16 << 20))
                except MemoryError:
                    kept.clear()
                    link.send({"full": True})
            case "grandchild":
                process = subprocess.Popen(["sleep", "600"])
                link.send({"pid": process.pid})
            case "many":
                for number in range(message["count"]):
                    link.send({"number": number, "fill": "x" * 1000})


def garbage(link: ParentLink) -> None:
    """Print to stdout by every door, then write straight into the parent's pipe what is no message."""
    print("python prints")
    os.write(1, b"a library writes to descriptor 1\n")
    subprocess.run(["echo", "a tool prints"], check=True)
    pipe = link._out
    for noise in (
        b"\n",
        b"no json\n",
        b"\xff\xfe\x00\xd8\n",
        b"[1, 2]\n",
        b"[" * 100_000 + b"\n",
        b'"text"\n',
        b"NaN\n",
    ):
        pipe.write(noise)
    link.send({"after": "garbage"})


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
