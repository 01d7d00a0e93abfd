"""An instance's connections to Redis: commands, one that publishes, one that listens.

``connect`` makes clients for a single server, Sentinel or Cluster from the settings. ``RedisLink`` holds what is made:
``run`` for commands (bounded in time, failures typed), ``Publisher`` (ordered, bounded) and ``Subscriber`` (reconnects,
notices silence). The bus between instances (``RedisBus``) and the shared state (``RedisState``) both stand on it.
"""

from .connect import Connector, SingleConnector, connector_from_settings
from .redis_link import RedisBus, RedisLink

__all__ = ["Connector", "RedisBus", "RedisLink", "SingleConnector", "connector_from_settings"]
