"""The page that Prometheus reads: an instance's registry, and what answers a request with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from realtime.histogram import Histogram

from .table import METRICS, Kind

if TYPE_CHECKING:
    from realtime.server import RealtimeServer


def registry_of(server: RealtimeServer) -> CollectorRegistry:
    """A registry of this instance alone, with the numbers of its process. To be collected in the instance's loop."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reading(server))
    ProcessCollector(registry=registry)
    return registry


def metrics_page(server: RealtimeServer) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for Starlette or FastAPI. Not for strangers: put it where only Prometheus comes."""
    registry = registry_of(server)

    async def page(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    return page


class _Reading(Collector):
    """Reads the plain numbers of an instance when somebody asks."""

    def __init__(self, server: RealtimeServer) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        for each in METRICS:
            read = each.read(self._server)
            if each.kind is Kind.HISTOGRAM:
                histogram = HistogramMetricFamily(each.name, each.help, labels=each.labels)
                if isinstance(read, Histogram):
                    histogram.add_metric([], _buckets(read), read.sum)
                yield histogram
                continue
            kind = CounterMetricFamily if each.kind is Kind.COUNTER else GaugeMetricFamily
            family = kind(each.name, each.help, labels=each.labels)
            assert not isinstance(read, Histogram)
            for labels, number in (read or {}).items():
                family.add_metric(labels, number)
            yield family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
