"""The wire under the events: python-socketio and python-engineio, extended by subclassing.

Every override says in its first line which upstream behaviour it replaces and why; `upstream.py` lists them.
"""

from .bus import Bus, LocalBus, LocalHub
from .counters import Counters
from .direct import DirectProtocol
from .limits import Limits
from .manager import WireManager
from .server import WireServer

__all__ = ["Bus", "Counters", "DirectProtocol", "Limits", "LocalBus", "LocalHub", "WireManager", "WireServer"]
