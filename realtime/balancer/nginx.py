"""A configuration for nginx, 1.15.3 or later, without modules that have to be paid for."""

from __future__ import annotations

from realtime.app import SOCKET_PATH

from .plan import Backend, Plan

_ZONE_KIB, _KIB_EACH = 64, 2
"""nginx refuses a shared zone that is too small for its instances, of which each takes 1 KiB."""

# uvicorn closes an idle connection after 5 s: taken out of the pool before, no POST meets one that is just closing.
_IDLE = "    keepalive 64;\n    keepalive_timeout 4s;"


def nginx(plan: Plan) -> str:
    """For the block `http`: what a file in /etc/nginx/conf.d holds."""
    routes = "\n".join(f'    "~^{each.tag}" realtime_{each.tag};' for each in plan.backends)
    everyone = "\n".join(f"    server {each.address} max_fails=1 fail_timeout=2s;" for each in plan.backends)
    groups = "\n".join(_group(each, plan) for each in plan.backends)
    instances = "\n".join(f"#   {each.variables}  at {each.address}" for each in plan.backends)
    return f"""\
{plan.made_by}
#
# For nginx's block http: save it as /etc/nginx/conf.d/realtime.conf, then `nginx -t && nginx -s reload`. When an
# instance joins or leaves, make it anew and reload: connections stay. In nginx.conf, worker_connections bounds the
# clients: each takes two. Start the instances, anywhere, with
{instances}
# They believe X-Forwarded-* from 127.0.0.1 only; elsewhere set FORWARDED_ALLOW_IPS to this machine's address there.

# A session id begins with the tag of its instance. Without one, or with one that nobody has, any instance may answer:
# it opens a session, or says 400 "Session ID unknown", upon which the client connects again.
map $arg_sid $realtime_session {{
    default      realtime_any;
{routes}
}}

map $http_upgrade $realtime_connection {{
    default upgrade;
    ""      "";
}}

upstream realtime_any {{
    zone realtime_any {_ZONE_KIB + _KIB_EACH * len(plan.backends)}k;
    least_conn;
{everyone}
{_IDLE}
}}

# Where the session's own instance is dead, another one tells the client so. max_fails=0: it is asked first every time,
# for one that is back hands out sessions again.
{groups}
server {{
    listen {plan.listen};
    client_max_body_size {plan.max_body};

    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $realtime_connection;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_buffering off;

    # WEBSOCKET_SERVER_PING_INTERVAL + WEBSOCKET_SERVER_PING_TIMEOUT and a margin: a poll is answered before.
    proxy_read_timeout {plan.patience}s;
    proxy_send_timeout {plan.patience}s;
    proxy_connect_timeout 2s;
    # Another instance gets what could not be delivered, and a GET that was not answered; no POST that was sent.
    proxy_next_upstream error timeout;

    location {SOCKET_PATH}/ {{
        proxy_pass http://$realtime_session;
    }}

    location / {{
        proxy_pass http://realtime_any;
    }}
}}
"""


def _group(backend: Backend, plan: Plan) -> str:
    others = "".join(
        f"    server {each.address} backup max_fails=1 fail_timeout=2s;\n"
        for each in plan.backends
        if each is not backend
    )
    return f"""\
upstream realtime_{backend.tag} {{
    server {backend.address} max_fails=0;
{others}{_IDLE}
}}
"""
