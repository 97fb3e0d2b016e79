"""The daemon, one step of which hangs forever: `python -m tests.kit.stuck FIFO run --config FILE`.

Publishing a transcript opens FIFO, to which no process writes, and so hangs like a disk that does not answer.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from invox_watcher import cli
from invox_watcher.files.folders import Folders


def main() -> int:
    """Run the command line."""
    fifo, *arguments = sys.argv[1:]

    def hang(*_arguments: Any) -> None:
        os.close(os.open(fifo, os.O_RDONLY))

    Folders.publish_all = hang  # type: ignore[assignment, method-assign]
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
