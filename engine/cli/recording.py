"""``purgeline record``: writes the requests of a running engine, and its answers, to a file."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from engine.cli.exits import DONE, FAILED, UsageError, fail
from engine.cli.stream_client import StreamConnection
from engine.cli.values import TIMEOUT_S
from engine.client.address import addresses_of, token_of
from engine.client.errors import RefusedError, UnreachableError
from engine.errors import EngineError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from engine.cli.screen import Output
    from engine.recordings.encoder import Encoder
    from engine.recordings.file import RecordingFile
    from engine.recordings.frames import Frame

_AGAIN_S: Final = 0.5  #: from one try to reach the engine again to the next
_AWAY_MAX_S: Final = 60.0  #: an engine that restarts is waited for
_LAST_S: Final = 0.5  #: what an engine has seen comes within that
_DAY_S: Final = 86_400.0
_CLOSED: Final = (None, b"")


def record(args: argparse.Namespace, out: Output) -> int:
    """Record until Ctrl-C, or as long as is asked for; exit 0 when nothing is missing."""
    from engine.recordings.file import RecordingFile  # noqa: PLC0415 - other commands start without it

    with contextlib.closing(_connection(args)) as client:
        first = client.stream(_path(args.sample, args.duration or _DAY_S))
        file = RecordingFile(
            args.output_file, chunk_bytes=args.chunk_bytes or 0, max_bytes=args.max_bytes or 0
        )
        run = _Run(client, file, args.sample, args.duration or 0.0, out.notice)
        code = DONE
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(signum, run.interrupt)
        try:
            run.record(first)
        except KeyboardInterrupt:
            pass  # which is how a recording ends
        except EngineError as exc:
            code = fail(out, exc)
        try:
            run.end()
        except EngineError as exc:
            code = max(code, fail(out, exc))
    document = run.document()
    out.sections(document, {"troubles": ("trouble", ("worker", "why"))})
    is_whole = not (document["dropped"] or document["unwritable"] or document["troubles"])
    return max(code, DONE if is_whole else FAILED)


def _connection(args: argparse.Namespace) -> StreamConnection:
    try:
        addresses, token = addresses_of(args.engine), token_of(args.token)
    except ValueError as exc:
        raise UsageError(f"--engine or --token: {exc}") from exc
    if len(addresses) > 1:
        raise UsageError(f"--engine: one engine is recorded at a time, not {len(addresses)}")
    return StreamConnection(addresses[0], token, args.timeout or TIMEOUT_S)


class _Run:
    """One recording.

    Args:
        client: of the engine.
        file: takes the entries.
        sample: share of all requests.
        duration_s: 0: until it is broken off.
        notice: tells the user.
    """

    def __init__(
        self,
        client: StreamConnection,
        file: RecordingFile,
        sample: float,
        duration_s: float,
        notice: Callable[[str], None],
    ) -> None:
        from engine.recordings.encoder import Encoder  # noqa: PLC0415 - as above
        from engine.recordings.ordering import Ordering  # noqa: PLC0415 - as above

        self._client = client
        self._file = file
        self._sample = sample
        self._notice = notice
        self._began = time.monotonic()
        self._until = self._began + duration_s if duration_s else 0.0
        self._ordering = Ordering()
        self._workers: dict[tuple[int, str], Frame] = {}  # the last frame of each, by connection
        self._encoders: defaultdict[tuple[int, str], Encoder] = defaultdict(
            lambda: Encoder(os.urandom(6).hex())
        )
        self._troubles: list[dict[str, str]] = []
        self._dropped = 0  # that the user knows of
        self._reconnected = 0
        self._is_waiting = False  # for the engine: nothing is lost when that is broken off
        self._is_ending = False
        self._is_over = False

    def interrupt(self, signum: int, _frame: object) -> None:
        """End as soon as what was answered before is written; a second time, what has come."""
        if signum != signal.SIGALRM and not self._is_ending:
            self._is_ending = True
            signal.setitimer(signal.ITIMER_REAL, _LAST_S)
            return
        self._is_over = True
        if self._is_waiting:
            raise KeyboardInterrupt

    def record(self, stream: Any) -> None:
        """Write what comes, until the time is over or the files are full.

        Args:
            stream: the engine's response.

        Raises:
            KeyboardInterrupt: it is broken off.
            RecordingError: the disk is full, or what answers is no engine.
            UnreachableError: the engine went away and does not come back.
            RefusedError: it refuses to go on.
        """
        while True:
            why = self._read(stream)
            if why is None:
                return
            stream = self._connect_again(why)
            if stream is None:
                return
            self._reconnected += 1
            self._notice("connected again: what passed in between is not in the recording")

    def _read(self, stream: Any) -> str | None:
        """Write what one stream brings; return why it has ended, None: the recording is over."""
        from engine.recordings.frames import frames_of  # noqa: PLC0415 - as above

        try:
            with stream:
                frames = frames_of(stream)
                while not self._is_over:
                    self._is_waiting = True
                    frame, packed = next(frames, _CLOSED)
                    self._is_waiting = False
                    if frame is None:
                        return "the connection closed"
                    now = time.monotonic()
                    if packed:
                        encoder = self._encoders[self._reconnected, frame.worker]
                        self._ordering.add(encoder.encode(frame, packed), now)
                    self._file.write(self._ordering.take(now))
                    if self._file.is_full or frame.ended == "seconds":
                        return None
                    self._hear(frame)
                    if frame.ended:
                        return f"the engine ends ({frame.ended})"
                    if self._until and now > self._until + _AGAIN_S:
                        return None
        except (http.client.HTTPException, OSError, ValueError) as exc:  # ValueError: of a chunk cut short
            return f"the connection broke: {exc}"
        finally:
            self._is_waiting = False
        return None

    def _hear(self, frame: Frame) -> None:
        """Keep what a worker has counted, and tell what an operator has to know at once."""
        if frame.trouble:
            self._troubles.append({"worker": frame.worker, "why": frame.trouble})
            self._notice(f"worker {frame.worker}: {frame.trouble}")
            return
        key = self._reconnected, frame.worker
        if key not in self._workers:
            self._notice(f"worker {frame.worker} is recorded")
        self._workers[key] = frame
        dropped = sum(worker.dropped for worker in self._workers.values())
        if dropped > self._dropped:
            self._notice(f"{dropped} requests are missing so far: they come faster than they are written")
            self._dropped = dropped

    def _connect_again(self, why: str) -> Any:
        """Return another stream; None: the time is over."""
        self._notice(f"{why}; trying to connect again")
        given_up_at = time.monotonic() + _AWAY_MAX_S
        self._is_waiting = True
        while not self._is_over:
            now = time.monotonic()
            if self._until and now >= self._until:
                return None
            try:
                return self._client.stream(_path(self._sample, self._until - now if self._until else _DAY_S))
            except (UnreachableError, RefusedError) as exc:
                if now > given_up_at or (isinstance(exc, RefusedError) and not exc.is_busy):
                    raise
            time.sleep(_AGAIN_S)
        return None

    def end(self) -> None:
        """Write what is left, and close the files.

        Raises:
            RecordingError: the disk is full.
        """
        try:
            self._file.write(self._ordering.take_all())
        finally:
            self._file.close()

    def document(self) -> dict[str, Any]:
        """Return what was recorded."""
        workers, encoders = self._workers.values(), self._encoders.values()
        return {
            "recorded": self._file.requests,
            "dropped": sum(worker.dropped for worker in workers),
            "unwritable": sum(frame.unwritable for frame in workers)
            + sum(encoder.unwritable for encoder in encoders),
            "fields_left_out": sum(encoder.fields_left_out for encoder in encoders),
            "bytes": self._file.written_bytes,
            "files": len(self._file.files),
            "reconnected": self._reconnected,
            "elapsed_s": round(time.monotonic() - self._began, 1),
            "troubles": self._troubles,
        }


def _path(sample: float, seconds: float) -> str:
    return f"/v1/engine/recording?{urlencode({'share': sample, 'seconds': round(min(seconds, _DAY_S), 3)})}"
