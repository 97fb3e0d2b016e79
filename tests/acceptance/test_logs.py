"""The log of a process: what libraries say, and disks that are full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

URL = "https://bucket.example.com/key?X-Amz-Signature=5ecre7&expires=1"


def test_libraries_are_silent() -> None:
    program = (
        "import logging, sys; from invox_watcher import events, logs; logging.basicConfig(level=0);"
        "logs.configure(level='debug');"
        "names = ('urllib3.connectionpool', 'requests', 'uvicorn');"
        f"[logging.getLogger(name).error({URL!r}) for name in names]"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "")


def test_a_log_that_can_not_be_written_stops_nothing() -> None:
    program = (
        "from invox_watcher import events, logs; logs.configure();"
        "[events.log.info(events.Event.DONE, job='x' * 5000) for _ in range(20_000)];"
        "print(open('/proc/self/statm').read().split()[1])"
    )
    with open("/dev/full", "w") as full:
        run = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, check=True)
    assert int(run.stdout) * 4096 < 80 << 20  # of 100 MB that were lost nothing is kept


@pytest.mark.parametrize("where", ["a file", "standard error"])
def test_a_line_that_a_full_disk_cut_off_spoils_only_itself(tmp_path: Path, where: str) -> None:
    file = tmp_path / "daemon.log"
    program = (
        "import resource, sys; from pathlib import Path; from invox_watcher import events, logs;"
        "logs.configure(file=Path(sys.argv[1]) if len(sys.argv) > 1 else None);"
        "room = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY));"
        "say = lambda number: (events.log.info(events.Event.DONE, job=str(number) * 200), logs.flush(30));"
        "say(1); room(400); say(2); say(3); room(1 << 20); say(4); say(5)"
    )
    arguments = [str(file)] if where == "a file" else []
    with open(os.devnull if arguments else file, "ab") as stderr:
        subprocess.run([sys.executable, "-c", program, *arguments], stderr=stderr, check=True)
    first, cut_off, *others = [line for line in file.read_text().splitlines() if line]
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(cut_off)
    fourth, counted, fifth = map(json.loads, others)
    assert [line["job"][0] for line in (json.loads(first), fourth, fifth)] == ["1", "4", "5"]
    assert (counted["event"], counted["count"]) == ("log_lines_dropped", 2)


def test_systemds_journal_gets_priorities_and_nothing_else_does(tmp_path: Path) -> None:
    program = (
        "import sys; from invox_watcher import events, logs; from invox_watcher.cli import main;"
        "logs.configure(format=sys.argv[1], level='debug'); event = events.Event.DONE;"
        "[getattr(events.log, level)(event) for level in ('debug', 'info', 'warning', 'error')];"
        "logs.flush(10); main(['check', '--config', '/nowhere/config.yaml'])"
    )

    def lines(format: str, stream: Callable[[os.stat_result], str]) -> list[str]:
        with (tmp_path / "stderr").open("w+") as stderr:
            environment = os.environ | {"JOURNAL_STREAM": stream(os.fstat(stderr.fileno()))}
            command = [sys.executable, "-c", program, format]
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=stderr, env=environment, check=True)
            stderr.seek(0)
            return stderr.read().splitlines()

    for format in ("json", "console"):
        plain = lines(format, lambda found: f"{found.st_dev}:{found.st_ino + 1}")
        prefixed = lines(format, lambda found: f"{found.st_dev}:{found.st_ino}")
        assert [line[:3] for line in prefixed[:5]] == ["<7>", "<6>", "<4>", "<3>", "<3>"]
        assert not any(line.startswith("<") for line in plain)
        assert [line.split()[-1] for line in prefixed] == [line.split()[-1] for line in plain]
        if format == "json":
            assert [json.loads(line[3:])["event"] for line in prefixed[:4]] == ["done"] * 4
