"""The seed's module-level names, built from the environment when this module is imported.

For applications that import them as they did before; everything else composes a ``RealtimeServer`` of its own. What
reads shared state is a coroutine here: it may ask Redis.
"""

from __future__ import annotations

from realtime.app import create_app
from realtime.auth import decode_token
from realtime.server import RealtimeServer
from realtime.settings import load_settings

app = create_app(load_settings())
server: RealtimeServer = app.state.realtime
sio = server.wire

SESSION_POOL = server.SESSION_POOL
USER_POOL = server.USER_POOL
USAGE_POOL = server.USAGE_POOL

get_event_emitter = server.get_event_emitter
get_event_call = server.get_event_call
get_models_in_use = server.get_models_in_use
get_user_id_from_session_pool = server.get_user_id_from_session_pool
get_user_ids_from_room = server.get_user_ids_from_room
get_active_status_by_user_id = server.get_active_status_by_user_id
emit_to_users = server.emit_to_users
enter_room_for_users = server.enter_room_for_users
leave_room_for_users = server.leave_room_for_users
disconnect_user = server.disconnect_user


async def periodic_usage_pool_cleanup() -> None:
    """Ends models' use in time, until cancelled. The application's lifespan runs one already; a second does no harm."""
    await server.usage_cleanup().run()


__all__ = [
    "SESSION_POOL",
    "USAGE_POOL",
    "USER_POOL",
    "app",
    "decode_token",
    "disconnect_user",
    "emit_to_users",
    "enter_room_for_users",
    "get_active_status_by_user_id",
    "get_event_call",
    "get_event_emitter",
    "get_models_in_use",
    "get_user_id_from_session_pool",
    "get_user_ids_from_room",
    "leave_room_for_users",
    "periodic_usage_pool_cleanup",
    "server",
    "sio",
]
