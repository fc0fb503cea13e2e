"""Spans of tasks, by the SDK of OpenTelemetry: an extra, ``purgeline[tracing]``, imported where it is used.

A task gets spans when its request came with a ``traceparent`` whose sender records the trace (flag
``sampled``): one for the task, from its acceptance until it settled, and below it one for each of its first
`_NODES_MAX` nodes, until its last ack. They are made when the task settles, of what its document says anyway,
so nothing is added to the way of a purge; some 60 µs a span, on the loop. A thread of the SDK sends them, and
drops the oldest when more come than it can send. No span holds a target.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from loguru import logger

from engine.errors import ConfigError
from engine.tasks.traceparent import is_sampled
from engine.tasks.words import State

if TYPE_CHECKING:
    from engine.tasks.document_types import NodeDocument, TaskDocument

MISSING: Final = "engine.trace_url: spans need the SDK of OpenTelemetry: install purgeline[tracing]"
_NODES_MAX: Final = 100
_TIMEOUT_S: Final = 5.0
_FLUSH_S: Final = 1.0


class Tracing:
    """Makes spans and has them sent.

    Args:
        url: of an OTLP receiver, ``http(s)://HOST[:PORT]``; spans are posted to its ``/v1/traces``.
        name: of this engine.
        version: of the engine.

    Raises:
        ConfigError: the SDK is not installed.
    """

    def __init__(self, url: str, *, name: str, version: str) -> None:
        try:
            from opentelemetry import trace  # noqa: PLC0415 - an extra
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - as above
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as above
            from opentelemetry.sdk.trace import TracerProvider, sampling  # noqa: PLC0415 - as above
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above
        except ImportError as exc:
            raise ConfigError(MISSING) from exc
        about = {"service.name": "purgeline", "service.version": version, "service.instance.id": name}
        self._exporter: Any = OTLPSpanExporter(endpoint=f"{url.rstrip('/')}/v1/traces", timeout=_TIMEOUT_S)
        self._provider = TracerProvider(
            sampler=sampling.ALWAYS_ON,
            resource=Resource.create(about),
            shutdown_on_exit=False,  # it would wait for a receiver that is away
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("purgeline", version)
        self._trace = trace

    def settled(self, document: TaskDocument) -> None:
        """Record a task that has settled, if whoever handed it in records its trace."""
        traceparent = document.traceparent or ""
        if not is_sampled(traceparent):
            return
        end = document.settled_at or document.updated_at
        span = self._tracer.start_span(
            f"{document.action} {document.kind}",
            context=self._context_of(traceparent),
            kind=self._trace.SpanKind.SERVER,
            start_time=_ns(document.created_at),
            attributes=_facts_of(document),
        )
        if document.state != State.DONE.value:
            span.set_status(self._trace.StatusCode.ERROR, document.state)
        below = self._trace.set_span_in_context(span)
        for node in document.nodes[:_NODES_MAX]:
            self._of_node(node, below, document.created_at, end)
        span.end(_ns(end))

    def _of_node(self, node: NodeDocument, context: Any, begin: float, end: float) -> None:
        span = self._tracer.start_span(
            f"node {node.name}",
            context=context,
            kind=self._trace.SpanKind.CLIENT,
            start_time=_ns(begin),
            attributes={
                "purgeline.node": node.name,
                "purgeline.layer": node.layer,
                "purgeline.subtasks": node.total,
                "purgeline.acked": node.acked,
                "purgeline.absent": node.absent,
                "purgeline.failed": node.failed,
            },
        )
        if node.acked < node.total:
            span.set_status(self._trace.StatusCode.ERROR, f"{node.acked} of {node.total} acked")
        span.end(_ns(node.acked_at or end))

    def _context_of(self, traceparent: str) -> Any:
        """Return the context of a traceparent: what its sender was doing is the parent."""
        _, trace_id, span_id, _ = traceparent.split("-")
        parent = self._trace.SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=self._trace.TraceFlags(1)
        )
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(parent))

    async def close(self) -> None:
        """Send what waits, within a moment; a receiver that is away holds up no stop."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self._provider.force_flush(int(_FLUSH_S * 1000))
            self._provider.shutdown()  # else its thread lives on
            with contextlib.suppress(RuntimeError):  # the loop is gone
                loop.call_soon_threadsafe(sent.set)

        threading.Thread(target=send, name="spans", daemon=True).start()  # an executor would be waited for
        try:
            await asyncio.wait_for(sent.wait(), _FLUSH_S)
        except TimeoutError:
            logger.warning("spans could not be sent in time")
            self._exporter.shutdown()  # it would try again for a minute


def _facts_of(document: TaskDocument) -> dict[str, str | int]:
    return {
        "purgeline.task_id": document.task_id,
        "purgeline.state": document.state,
        "purgeline.door": document.by.door,
        "purgeline.targets": document.target_count,
        "purgeline.subtasks": document.total,
        "purgeline.acked": document.counter,
        "purgeline.failed": document.failed,
        "purgeline.cancelled": document.cancelled,
    }


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
