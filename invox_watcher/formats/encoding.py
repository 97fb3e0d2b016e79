"""The worker's output: sound as FLAC or WAV with 16 bits, in the rate and channels that it came with."""

from __future__ import annotations

from array import array
from typing import Literal, Protocol, cast

import av
import av.audio
import av.container

Container = Literal["flac", "wav"]
_CODECS: dict[Container, str] = {"flac": "flac", "wav": "pcm_s16le"}
_MOST_CHANNELS = 8  # of FLAC
_LOUDEST = 32767


class File(Protocol):
    """What PyAV reads from or writes to."""

    def read(self, size: int, /) -> bytes: ...
    def write(self, data: bytes, /) -> int: ...
    def seek(self, offset: int, whence: int = ..., /) -> int: ...
    def tell(self) -> int: ...


class Sink:
    """Takes frames of any format and encodes them; rate and channels are those of the first frame."""

    def __init__(self, file: File, container: Container) -> None:
        self._file, self._container = file, container
        self._output: av.container.OutputContainer | None = None
        self._stream: av.audio.AudioStream | None = None
        self._resampler: av.AudioResampler | None = None
        self._takes: tuple[str, str, int] | None = None  # what the resampler has been made for
        self._samples = self._clipped = 0
        self.rate = self.channels = 0

    @property
    def seconds(self) -> float:
        """The length of what has been written."""
        return self._samples / self.rate if self.rate else 0.0

    @property
    def clipped(self) -> float:
        """The share of samples at either end of the scale."""
        return self._clipped / (self._samples * self.channels) if self._samples else 0.0

    def write(self, frame: av.AudioFrame) -> None:
        """Encode one frame. Raises av.FFmpegError or ValueError if the encoder does not take its rate."""
        if self._stream is None:
            self._open(frame)
        takes = (frame.format.name, frame.layout.name, frame.sample_rate)
        if takes != self._takes:  # a stream may change in its middle; a resampler takes only one format
            self._flush()
            assert self._stream is not None  # noqa: S101 - opened above
            self._resampler = av.AudioResampler("s16", self._stream.layout, self.rate)
            self._takes = takes
        assert self._resampler is not None  # noqa: S101 - made for the first frame
        frame.pts = None  # a gap in the times is not a gap in what was said
        for part in self._resampler.resample(frame):
            self._encode(part)

    def close(self) -> None:
        """Write what is left, and the header with the final length."""
        self._flush()
        if self._output is not None and self._stream is not None:
            self._output.mux(self._stream.encode(None))
            self._output.close()

    def _open(self, frame: av.AudioFrame) -> None:
        self.rate = frame.sample_rate
        self.channels = frame.layout.nb_channels
        layout = frame.layout.name
        if self.channels > _MOST_CHANNELS:
            self.channels, layout = 1, "mono"
        self._output = av.open(self._file, "w", format=self._container)
        stream = self._output.add_stream(
            _CODECS[self._container], rate=self.rate, layout=layout, format="s16"
        )
        self._stream = cast("av.audio.AudioStream", stream)
        self._stream.codec_context.thread_count = 1

    def _flush(self) -> None:
        if self._resampler is not None:
            for part in self._resampler.resample(None):
                self._encode(part)
        self._resampler = None

    def _encode(self, frame: av.AudioFrame) -> None:
        assert self._output is not None and self._stream is not None  # noqa: S101, PT018 - opened before
        samples = array("h", bytes(frame.planes[0])[: 2 * frame.samples * self.channels])
        self._samples += frame.samples
        self._clipped += samples.count(_LOUDEST) + samples.count(-_LOUDEST - 1)
        frame.pts = None
        self._output.mux(self._stream.encode(frame))
