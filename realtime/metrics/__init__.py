"""What Prometheus can ask of one instance.

Nothing here counts: the layer keeps plain numbers where things happen (``wire.counters`` and the ``counts`` of its
parts), and ``table`` says how they are read when somebody asks. The registry belongs to one ``RealtimeServer``; the
module-level one of ``prometheus_client`` is never used, for several instances may live in one process.

``python -m realtime`` and every ``RealtimeServer`` with ``REALTIME_METRICS_PORT`` answer on a port of their own
(``listener``): on the public one, whoever may open a socket could read how many others have. An application that wants
them elsewhere adds a route: ``app.add_route("/metrics", page.metrics_page(server))``.
"""
