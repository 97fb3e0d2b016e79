"""Between a client and Debian's sftp-server: passes all packets on, except as the file `mode` beside it says.

plain: all. cut: the session ends once a file has been renamed, before the client is told. slow: nothing is
answered. old: the server has none of OpenSSH's extensions. full: a file can't be written, as on a full disk.

Packets: draft-ietf-secsh-filexfer-02, section 3.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

_VERSION, _WRITE, _RENAME, _STATUS, _EXTENDED = 2, 6, 18, 101, 200
_FAILURE = 4


def main() -> None:
    folder = Path(sys.argv[1])
    mode = (folder / "mode").read_text()
    with (folder / "sessions").open("a") as sessions:
        sessions.write("session\n")
    server = subprocess.Popen(
        ["/usr/lib/openssh/sftp-server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder / "home"
    )
    renames: set[bytes] = set()

    def answers() -> None:
        while packet := read(server.stdout):
            if mode == "old" and packet[0] == _VERSION:
                packet = packet[:5]
            if mode == "slow" or (packet[1:5] in renames and mode == "cut"):
                if mode == "cut":
                    os._exit(1)
                continue
            write(sys.stdout.buffer, packet)

    threading.Thread(target=answers, daemon=True).start()
    while packet := read(sys.stdin.buffer):
        if packet[0] == _RENAME or (packet[0] == _EXTENDED and b"rename" in packet[:40]):
            renames.add(packet[1:5])
        if mode == "full" and packet[0] == _WRITE:
            text = b"Failure"
            status = struct.pack(">B4sII", _STATUS, packet[1:5], _FAILURE, len(text)) + text
            write(sys.stdout.buffer, status + struct.pack(">I", 0))
            continue
        write(server.stdin, packet)
    server.stdin.close()
    server.wait()


def read(stream: BinaryIO) -> bytes:
    head = stream.read(4)
    return stream.read(struct.unpack(">I", head)[0]) if len(head) == 4 else b""


def write(stream: BinaryIO, packet: bytes) -> None:
    stream.write(struct.pack(">I", len(packet)) + packet)
    stream.flush()


main()
