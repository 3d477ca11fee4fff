"""A recording of the stream on request: an annotated video and a log of results, in segments, for its owner alone."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.annotated_video import annotated
from gensoup.runtime.errors import GenSoupError, UsageError, WriteError
from gensoup.runtime.files import rename_whole, write_error, write_whole
from gensoup.runtime.preprocess import Preprocess
from gensoup.runtime.result import Result
from gensoup.runtime.result_line import json_line, result_values
from gensoup.runtime.video_file import VideoFile

Frame = NDArray[np.uint8]

_FRAMES = 8  # waiting to be drawn: some 50 MB at 1080p
_LINES = 4096  # waiting to be written
_MB = 1_000_000


@dataclass(frozen=True)
class RecordingOptions:
    """Where and in what parts a recording is kept.

    folder: made if need be, for its owner alone. rotate_minutes, rotate_mb: a new segment begins after so much time or
        so many MB, whichever is first. keep_free_mb: the recording stops when the disk has less left.
    """

    folder: Path
    rotate_minutes: float = 10.0
    rotate_mb: float = 1000.0
    keep_free_mb: float = 500.0

    def __post_init__(self) -> None:
        for option, value in (("--rotate-minutes", self.rotate_minutes), ("--rotate-mb", self.rotate_mb)):
            if not value > 0:
                raise UsageError(f"{option} {value:g}: must be more than 0")
        if not self.keep_free_mb >= 0:
            raise UsageError(f"--keep-free-mb {self.keep_free_mb:g}: must not be negative")


@dataclass
class RecordingSummary:
    """What was recorded.

    segments: the logs' and videos' paths. lines, pictures: written. skipped: results without a picture, lost: without a
    line, because the disk or the encoder fell behind. stopped: why it ended before the stream did, else empty.
    """

    segments: list[Path] = field(default_factory=list)
    lines: int = 0
    pictures: int = 0
    skipped: int = 0
    lost: int = 0
    stopped: str = ""

    def lines_to_show(self) -> list[str]:
        """For people to read."""
        count = len(self.segments)
        told = [f"recorded {self.pictures} pictures and {self.lines} lines in {count} files"]
        if self.skipped or self.lost:
            told.append(f"recording fell behind: {self.skipped} results without a picture, {self.lost} without a line")
        return told + ([f"recording stopped early: {self.stopped}"] if self.stopped else [])


class Recording:
    """Annotated video and log in segments, written in a thread of its own; trouble ends the recording, nothing else.

    A segment is ``TIME-NUMBER.avi`` (Motion JPEG) and ``TIME-NUMBER.jsonl``, mode 0600; while it is written
    ``TIME-NUMBER.part.avi`` and so on, which is what a killed process leaves, readable. A line of the log is that of
    ``run --json`` with ``time`` (of capture, UTC) and ``picture`` (its number in the segment's video, null where it was
    left out).
    """

    def __init__(
        self,
        options: RecordingOptions,
        rate_hz: float,
        *,
        wait: bool,
        preprocess: Preprocess | None = None,
        on_event: Callable[[str], None] | None = None,
    ) -> None:
        """wait: ``add`` waits while writing is behind, else pictures are left out. preprocess: as for AnnotatedVideo.

        on_event: told once, in the thread that writes, when the recording stops by itself. Raises WriteError when the
        folder cannot be written or has too little space.
        """
        self.summary = RecordingSummary()
        self._options = options
        self._rate_hz = rate_hz
        self._wait = wait
        self._preprocess = preprocess
        self._on_event = on_event
        self._segment: _Segment | None = None
        self._number = 0
        _make_private(options.folder)
        self._check_space()
        self._room = threading.Semaphore(_FRAMES)
        self._queue: queue.Queue[tuple[Frame | None, Result] | None] = queue.Queue(_LINES)
        self._thread = threading.Thread(target=self._run, name="gensoup-recording", daemon=True)
        self._thread.start()

    def add(self, frame: Frame | None, result: Result) -> None:
        """Queue a result with its frame, which must not be changed any more; None: it is gone. Never raises."""
        if self.summary.stopped:
            return
        has_room = frame is not None and self._room.acquire(blocking=self._wait)
        self.summary.skipped += not has_room
        try:
            self._queue.put((frame if has_room else None, result), block=self._wait)
        except queue.Full:
            self.summary.lost += 1
            if has_room:
                self._room.release()

    def close(self) -> None:
        """Write what is queued and complete the segment. Never raises: ``summary.stopped`` tells."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            frame, result = item
            try:
                if not self.summary.stopped:
                    self._write(frame, result)
            except Exception as error:  # whatever it is, the stream goes on
                self._stop(error)
            finally:
                if frame is not None:
                    self._room.release()
        self._finish()

    def _write(self, frame: Frame | None, result: Result) -> None:
        self._check_space()
        if self._segment is not None and self._is_full(self._segment):
            self._finish()
            if self.summary.stopped:
                return
        if self._segment is None:
            self._number += 1
            self._segment = _Segment(self._options.folder, self._number, self._rate_hz)
        picture = None if frame is None else annotated(frame, result, self._preprocess)
        self._segment.add(picture, result)
        self.summary.lines += 1
        self.summary.pictures += picture is not None

    def _is_full(self, segment: _Segment) -> bool:
        seconds = segment.lines / self._rate_hz if self._wait else time.monotonic() - segment.opened_at
        return seconds >= self._options.rotate_minutes * 60 or segment.bytes >= self._options.rotate_mb * _MB

    def _check_space(self) -> None:
        folder, least = self._options.folder, self._options.keep_free_mb
        try:
            free = shutil.disk_usage(folder).free / _MB
        except OSError as error:
            raise write_error(folder, error, "--record") from error
        if free < least:
            raise WriteError(
                f"--record {folder}: {free:.1f} MB free, {least:g} MB are kept; free some space or lower --keep-free-mb"
            )

    def _stop(self, error: Exception) -> None:
        self.summary.stopped = str(error) or type(error).__name__
        self._finish()
        if self._on_event is not None:
            with contextlib.suppress(Exception):  # a closed terminal, for instance
                self._on_event(f"recording stopped, the stream goes on: {self.summary.stopped}")

    def _finish(self) -> None:
        """Complete the open segment; a failure there stops the recording, once."""
        segment, self._segment = self._segment, None
        if segment is None:
            return
        try:
            segment.close()
        except GenSoupError as error:
            if not self.summary.stopped:
                self._stop(error)
        self.summary.segments += segment.paths


class _Segment:
    """A video and its log, private, under temporary names until they are closed."""

    def __init__(self, folder: Path, number: int, rate_hz: float) -> None:
        self.opened_at = time.monotonic()
        self.lines = 0
        self.paths: list[Path] = []
        self._base = folder / f"{_utc(0.0).replace(':', '').replace('-', '')}-{number:04d}"
        self._rate_hz = rate_hz
        self._video: VideoFile | None = None
        self._pictures = 0
        self._log_bytes = 0
        log = self._part(".jsonl")
        _touch_private(log)
        try:
            self._log = log.open("wb", buffering=0)
        except OSError as error:
            raise write_error(log, error) from error

    @property
    def bytes(self) -> int:
        """On disk so far."""
        return self._log_bytes + (self._video.bytes if self._video is not None else 0)

    def add(self, picture: Frame | None, result: Result) -> None:
        """Write a picture and its line. Raises WriteError; what is there stays readable."""
        if picture is not None:
            if self._video is None:
                path = self._part(".avi")
                _touch_private(path)
                self._video = VideoFile(path, self._rate_hz, (picture.shape[1], picture.shape[0]))
            self._video.write(picture)
        seconds_ago = time.monotonic() - result.captured_at
        shown = None if picture is None else self._pictures
        line = json_line({**result_values(result), "time": _utc(seconds_ago), "picture": shown})
        try:
            write_whole(self._log, line)
        except OSError as error:
            raise write_error(self._part(".jsonl"), error) from error
        self._log_bytes += len(line)
        self.lines += 1
        self._pictures += picture is not None

    def close(self) -> None:
        """Flush both files to disk and give them their names. Raises WriteError when the end of one is missing."""
        problem: GenSoupError | None = None
        try:
            self._log.close()
        except OSError as error:
            problem = write_error(self._part(".jsonl"), error)
        try:
            if self._video is not None:
                self._video.close()
        except GenSoupError as error:
            problem = problem or error
        for suffix in [".jsonl"] + ([".avi"] if self._video is not None else []):
            try:
                rename_whole(self._part(suffix), self._named(suffix))
                self.paths.append(self._named(suffix))
            except GenSoupError as error:
                problem = problem or error
        if problem is not None:
            raise problem

    def _part(self, suffix: str) -> Path:
        return self._base.with_name(f"{self._base.name}.part{suffix}")

    def _named(self, suffix: str) -> Path:
        return self._base.with_name(f"{self._base.name}{suffix}")


def _utc(seconds_ago: float) -> str:
    """Universal time so many seconds ago, with milliseconds: 2026-05-17T10:31:02.123Z."""
    moment = datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _make_private(folder: Path) -> None:
    """A folder for its owner alone; one that is there already stays as it is."""
    try:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
        elif not folder.is_dir():
            raise UsageError(f"--record {folder}: is a file; name a folder")
    except OSError as error:
        raise write_error(folder, error, "--record") from error


def _touch_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise write_error(path, error) from error
