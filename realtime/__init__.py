"""A real-time layer for chat applications: python-socketio under FastAPI, right on many instances.

A client connects (``wire``), its token is checked (``auth``), its user and channels are looked up (``directory``), and
its session is registered in the shared state (``state``: memory or Redis) under this instance's lease (``leasing``).
That change gets a version and is published; every instance applies it to its copy (``replica``) and tells its clients
what they may know (``presence``). Events are checked and handled in order per socket (``handlers``, ``payloads``);
other backend modules emit and call through ``calls``. ``RealtimeServer`` composes all of it; ``app`` mounts it.
"""

from .server import RealtimeServer
from .settings import Settings, load_settings

__all__ = ["RealtimeServer", "Settings", "load_settings"]
