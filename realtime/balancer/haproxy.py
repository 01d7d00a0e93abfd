"""A configuration for HAProxy, 2.4 or later."""

from __future__ import annotations

from realtime.app import SOCKET_PATH

from .plan import Plan


def haproxy(plan: Plan) -> str:
    """A whole file: HAProxy needs no other."""
    servers = "\n".join(f"    server {each.name} {each.address} check" for each in plan.backends)
    rules = "\n".join(
        f"    use-server {each.name} if {{ url_param(sid) -m beg {each.tag} }}" for each in plan.backends
    )
    instances = "\n".join(f"#   {each.variables}  at {each.address}" for each in plan.backends)
    bind = plan.listen if ":" in plan.listen else f":{plan.listen}"
    return f"""\
{plan.made_by}
#
# Save it as /etc/haproxy/haproxy.cfg, then `haproxy -c -f /etc/haproxy/haproxy.cfg && systemctl reload haproxy`.
# When an instance joins or leaves, make it anew and reload: connections stay. Start the instances, anywhere, with
{instances}
# They believe X-Forwarded-* from 127.0.0.1 only; elsewhere set FORWARDED_ALLOW_IPS to this machine's address there.

defaults
    mode http
    timeout connect 2s
    timeout http-request 10s
    timeout http-keep-alive 10s
    timeout queue 5s
    # WEBSOCKET_SERVER_PING_INTERVAL + WEBSOCKET_SERVER_PING_TIMEOUT and a margin: a poll is answered before, and on a
    # websocket a ping comes before.
    timeout client {plan.patience}s
    timeout server {plan.patience}s
    timeout tunnel {plan.patience}s
    # Another instance gets what could not be delivered; nothing that was sent, no POST above all, is sent twice.
    retries 3
    retry-on conn-failure
    option redispatch 1

frontend realtime
    bind {bind}
    option forwardfor
    http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    use_backend realtime_sessions if {{ path_beg {SOCKET_PATH}/ }} {{ url_param(sid) -m found }}
    default_backend realtime_any

# Whoever has no session yet goes to an instance that takes clients.
backend realtime_any
    balance leastconn
    option httpchk GET /ready
    default-server inter 1s fall 2 rise 1
{servers}

# A session id begins with the tag of its instance. An instance that takes no new clients serves those it has, so this
# asks for no more than life. Where the session's instance is dead, or nobody has that tag, another one says 400
# "Session ID unknown", upon which the client connects again.
backend realtime_sessions
    balance roundrobin
    option httpchk GET /health
    default-server inter 1s fall 2 rise 1
{rules}
{servers}
"""
