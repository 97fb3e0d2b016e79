"""The worker: `python -m invox_watcher.formats.worker`, started by `decoder` for one recording.

The recording is on descriptor 0, the output on 1, and the facts go to 2 as JSON. It gets no name, no
credentials and no environment. Everything is imported and used once before the lock, since a locked process
can't open a file; only then is the recording's first byte read.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence

import av
import av.logging

from invox_watcher.formats import dictation, sound
from invox_watcher.formats.encoding import Container, Sink
from invox_watcher.formats.facts import Facts, Outcome, to_json
from invox_watcher.formats.lock import Limits, LockError, die_with_parent, lock
from invox_watcher.formats.source import Descriptor, Spliced

_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Decode, report, and exit with status 0; a status other than that means that the facts don't count."""
    options = _parse(arguments)
    die_with_parent(options.parent)
    av.logging.set_level(None)
    sys.stderr = sys.stdout = None  # for PyAV, which prints what it drops
    passwords = _passwords(options.passwords)
    _warm_up()
    try:
        lock(Limits(options.memory_bytes, options.cpu_seconds, options.output_bytes))
    except LockError:
        facts = Facts(Outcome.NOT_LOCKED)
    else:
        facts = _run(_source(options.header, options.start), Descriptor(1), options.container, passwords)
    Descriptor(2).write(to_json(facts))
    os._exit(0)  # what the interpreter does at its end is not in the lock's list


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("container", choices=("flac", "wav"))
    for name in ("parent", "memory-bytes", "cpu-seconds", "output-bytes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--passwords", type=int, help="a descriptor to read them from")
    parser.add_argument("--header", type=bytes.fromhex, default=b"", help="read before the recording")
    parser.add_argument("--start", type=int, default=0, help="where the recording is read from")
    return parser.parse_args(arguments)


def _passwords(descriptor: int | None) -> list[bytes]:
    if descriptor is None:
        return []
    with os.fdopen(descriptor, "rb") as file:
        return [line for line in file.read().splitlines() if line]


def _warm_up() -> None:
    """Use every part once: what is loaded late is loaded now."""
    silence = io.BytesIO()
    with av.open(silence, "w", format="wav") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame("s16", "mono", 800)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate = 8000
        output.mux([*stream.encode(frame), *stream.encode(None)])
    silence.seek(0)
    sink = Sink(io.BytesIO(), "flac")
    decoded = sound.decode(silence, sink)
    sink.close()
    dictation.read_header(bytes(dictation.HEAD_BYTES))
    to_json(_facts(sink, decoded, b"\x02dss".ljust(0x400, b"0")))


def _source(header: bytes, start: int) -> Descriptor | Spliced:
    recording = Descriptor(0)
    return Spliced(recording, header, start) if header or start else recording


def _run(
    source: Descriptor | Spliced, target: Descriptor, container: Container, passwords: Sequence[bytes]
) -> Facts:
    sink = Sink(target, container)
    try:
        head = source.read(dictation.HEAD_BYTES)
        source.seek(0)
        if dictation.needs_codec(head):
            decoded = dictation.decode(source, sink, passwords)
        else:
            decoded = sound.decode(source, sink)
        sink.close()
    except dictation.PasswordError as error:
        return Facts(Outcome.WRONG_PASSWORD if error.given else Outcome.PASSWORD_NEEDED)
    except MemoryError:
        return Facts(Outcome.OUT_OF_MEMORY)
    except Exception:  # noqa: BLE001 - its text is that of a library, and may be of the recording
        return Facts(_after_error(source, target))
    if source.error or target.error:
        return Facts(_after_error(source, target))
    if not sink.seconds:
        return Facts(Outcome.UNDECODABLE, codec=decoded.codec)
    return _facts(sink, decoded, head)


def _after_error(source: Descriptor | Spliced, target: Descriptor) -> Outcome:
    if target.error is not None:
        if target.error.errno == errno.EFBIG:
            return Outcome.TOO_LARGE
        return Outcome.DISK_FULL if target.error.errno in _FULL else Outcome.IO_ERROR
    return Outcome.IO_ERROR if source.error else Outcome.UNDECODABLE


def _facts(sink: Sink, decoded: sound.Decoded, head: bytes) -> Facts:
    header = dictation.read_header(head) if dictation.is_dictation(head) else None
    return Facts(
        Outcome.DECODED,
        codec=decoded.codec,
        seconds=round(sink.seconds, 3),
        rate=sink.rate,
        channels=sink.channels,
        clipped=sink.clipped,
        declared_seconds=decoded.declared_seconds,
        recorder_seconds=header.recorder_seconds if header else None,
        errors=decoded.errors,
        ends_in_error=decoded.ends_in_error,
        attributes=header.attributes if header else decoded.attributes,
        tags=dict(decoded.tags),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
