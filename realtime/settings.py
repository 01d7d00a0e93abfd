"""Settings: read from the environment, checked as a whole, refused with sentences."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from realtime import urls
from realtime.errors import SettingsError
from realtime.secret import DEMO_SECRET_KEY, MIN_SECRET_BYTES, weakness
from realtime.tags import TAG_PATTERN, tag_of

_ENVIRONMENT_NAMES = {"demo": "REALTIME_DEMO"}
INSTANCE_NAME_PATTERN = r"^[A-Za-z0-9._-]{1,100}$"
OWN_ROOMS = 10
"""Rooms of a session that are not channels: its user's, and audiences."""
_SECRETS = frozenset({"webui_secret_key", "websocket_redis_url", "database_url"})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def environment_name(field: str) -> str:
    """The environment variable of a field of `Settings`."""
    return _ENVIRONMENT_NAMES.get(field, field.upper())


def _setting(default: Any, allowed: str, **constraints: Any) -> Any:
    return Field(default=default, description=allowed, **constraints)


def _seconds(default: float, *, at_most: float = 3600) -> Any:
    return _setting(default, f"seconds, above 0 and at most {at_most:g}", gt=0, le=at_most)


def _count(default: int, *, at_least: int = 1, at_most: int) -> Any:
    return _setting(default, f"a whole number from {at_least} to {at_most}", ge=at_least, le=at_most)


def _switch(default: bool) -> Any:
    return _setting(default, "true or false")


def _instance_name() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:40]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


class _Environment(PydanticBaseSettingsSource):
    """Exactly the documented upper-case names; an empty value counts as not set, as in compose files."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        return os.environ.get(environment_name(field_name)) or None, field_name, False

    def __call__(self) -> dict[str, str]:
        found = {name: os.environ.get(environment_name(name), "") for name in self.settings_cls.model_fields}
        return {name: value for name, value in found.items() if value}


class Settings(BaseSettings):
    """Everything an operator can set.

    A field's environment name is its name in upper case, except REALTIME_DEMO for `demo`. Durations are
    seconds, sizes bytes. A field's description says what is allowed. Use `load_settings`, whose errors are
    readable.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    # First, because what is allowed elsewhere depends on it.
    demo: bool = _switch(False)

    enable_websocket_support: bool = _switch(True)
    websocket_manager: Literal["", "redis"] = _setting("", 'empty (one instance alone) or "redis"')
    websocket_redis_url: str = _setting(
        "",
        "redis://HOST:PORT/NUMBER (or rediss://, valkey://, valkeys://) or unix://PATH; behind Sentinel, HOST"
        " is the name of the monitored primary",
        repr=False,
    )
    websocket_sentinel_hosts: str = _setting(
        "", "host or host:port, several separated by commas; IPv6 in [ ]"
    )
    websocket_sentinel_port: int = _count(26379, at_most=65535)
    websocket_redis_cluster: bool = _switch(False)
    websocket_redis_room_channels: bool = _switch(True)
    websocket_redis_lock_timeout: float = _seconds(60)
    redis_key_prefix: str = _setting(
        "open-webui", "1 to 64 letters, digits, and any of . _ - :", pattern=r"^[A-Za-z0-9._:-]{1,64}$"
    )
    websocket_server_ping_interval: float = _seconds(25)
    websocket_server_ping_timeout: float = _seconds(20)
    websocket_event_caller_timeout: float = _seconds(60, at_most=86400)
    cors_allow_origin: str = _setting(
        "",
        'empty (same origin only), origins such as https://chat.example.org separated by ";", or "*" alone',
    )
    database_url: str = _setting(
        "sqlite+aiosqlite:///./realtime.db",
        "sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME (also with +aiosqlite, +asyncpg)",
        repr=False,
    )
    webui_secret_key: SecretStr = _setting(
        SecretStr(""),
        f"a random secret of at least {MIN_SECRET_BYTES} bytes, the same on all instances: make one with"
        ' python -c "import secrets; print(secrets.token_urlsafe(48))"',
        validate_default=True,
    )

    realtime_instance_name: str = Field(
        default_factory=_instance_name,
        description="1 to 100 letters, digits, and any of . _ -; different on each instance",
        pattern=INSTANCE_NAME_PATTERN,
    )
    realtime_instance_tag: str = _setting(
        "",
        "empty (made from REALTIME_INSTANCE_NAME), or 8 lower-case letters and digits that no other instance has",
        pattern=rf"^$|{TAG_PATTERN}",
    )
    realtime_lease_seconds: float = _seconds(5)
    realtime_state_timeout_seconds: float = _seconds(2, at_most=60)
    realtime_auth_grace_seconds: float = _seconds(15)
    realtime_handshake_seconds: float = _seconds(45)
    realtime_direct_websockets: bool = _switch(True)
    realtime_slow_consumer_seconds: float = _seconds(10)
    realtime_shutdown_grace_seconds: float = _seconds(10)
    realtime_usage_seconds: float = _seconds(3)
    realtime_list_interval_seconds: float = _seconds(0.25, at_most=60)
    realtime_list_bytes_per_second: int = _count(4_000_000, at_most=10_000_000_000)
    realtime_list_max_users: int = _count(5000, at_most=1_000_000)
    realtime_user_list_visibility: Literal["everyone", "channels"] = _setting(
        "everyone", '"everyone" (all who are signed in) or "channels" (those who share a channel)'
    )
    realtime_channel_event_types: str = _setting("typing", 'event types separated by commas, or "*" for all')
    realtime_max_sessions_per_user: int = _count(50, at_most=10_000)
    realtime_max_unauthenticated: int = _count(1000, at_most=1_000_000)
    realtime_max_models_per_session: int = _count(100, at_most=10_000)
    realtime_max_channels_per_user: int = _count(1000, at_most=100_000)
    realtime_max_rooms_per_session: int = _count(2000, at_most=1_000_000)
    realtime_max_events_per_second: int = _count(100, at_most=1_000_000)
    realtime_max_event_burst: int = _count(200, at_most=1_000_000)
    realtime_max_pending_events: int = _count(256, at_most=1_000_000)
    realtime_max_payload_bytes: int = _count(1_000_000, at_least=1024, at_most=100_000_000)
    realtime_max_outgoing_bytes: int = _count(1_048_576, at_least=1024, at_most=1_000_000_000)
    realtime_max_bus_message_bytes: int = _count(1_048_576, at_least=1024, at_most=100_000_000)
    # The database's id columns hold 256 characters.
    realtime_max_id_length: int = _count(256, at_most=256)
    realtime_log_format: Literal["text", "json"] = _setting("text", '"text" or "json"')
    realtime_metrics_port: int = _count(0, at_least=0, at_most=65535)
    realtime_metrics_host: str = _setting(
        "127.0.0.1", "an address or a name of this machine; 0.0.0.0 for all", pattern=r"^[A-Za-z0-9._:%-]+$"
    )
    realtime_bus_channel: str = _setting(
        "socketio", "1 to 64 letters, digits, and any of . _ - : /", pattern=r"^[A-Za-z0-9._:/-]{1,64}$"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)

    @field_validator("websocket_redis_url")
    @classmethod
    def _check_redis_url(cls, value: str) -> str:
        return urls.check_redis_url(value) if value else value

    @field_validator("websocket_sentinel_hosts")
    @classmethod
    def _check_sentinel_hosts(cls, value: str) -> str:
        urls.parse_sentinels(value, default_port=1)
        return value

    @field_validator("cors_allow_origin")
    @classmethod
    def _check_origins(cls, value: str) -> str:
        if value.strip() != "*":
            urls.parse_origins(value)
        return value

    @field_validator("realtime_channel_event_types")
    @classmethod
    def _check_event_types(cls, value: str) -> str:
        if not all(0 < len(word.strip()) <= 100 and word.isprintable() for word in value.split(",")):
            raise ValueError("no event type")
        return value

    @field_validator("webui_secret_key")
    @classmethod
    def _check_secret(cls, value: SecretStr, info: Any) -> SecretStr:
        if info.data.get("demo") and value.get_secret_value() in ("", DEMO_SECRET_KEY):
            # A demo's instances must accept each other's tokens; only this machine can reach them.
            return SecretStr(DEMO_SECRET_KEY)
        if fault := weakness(value.get_secret_value()):
            raise ValueError(fault)
        return value

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        wrong = list(self._contradictions())
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _contradictions(self) -> list[str]:
        wrong = []
        url, sentinel, cluster = (
            self.websocket_redis_url,
            self.websocket_sentinel_hosts,
            self.websocket_redis_cluster,
        )
        if self.websocket_manager == "redis" and not url:
            wrong.append('WEBSOCKET_REDIS_URL: missing; WEBSOCKET_MANAGER="redis" needs the address of Redis')
        if self.websocket_manager == "":
            # An instance that silently stood alone would look healthy and miss the others' events.
            needs_manager = {
                "WEBSOCKET_REDIS_URL": url,
                "WEBSOCKET_SENTINEL_HOSTS": sentinel,
                "WEBSOCKET_REDIS_CLUSTER": cluster,
            }
            wrong += [
                f'{name}: set, but WEBSOCKET_MANAGER is not "redis"; set both or neither'
                for name, value in needs_manager.items()
                if value
            ]
        if cluster and sentinel:
            wrong.append(
                "WEBSOCKET_REDIS_CLUSTER: true together with WEBSOCKET_SENTINEL_HOSTS; set one of them"
            )
        if url.startswith("unix:") and (cluster or sentinel):
            wrong.append(
                "WEBSOCKET_REDIS_URL: unix:// together with a cluster or Sentinel; give a host instead"
            )
        if cluster and url and urls.redis_database(url):
            wrong.append("WEBSOCKET_REDIS_URL: names a database number; a cluster has database 0 only")
        if self.demo and not is_loopback(self.realtime_metrics_host):
            wrong.append(
                f"REALTIME_METRICS_HOST: got {self.realtime_metrics_host!r}; a demo listens on loopback only, use"
                " 127.0.0.1"
            )
        if self.realtime_state_timeout_seconds >= self.realtime_lease_seconds:
            wrong.append(
                f"REALTIME_STATE_TIMEOUT_SECONDS: got {self.realtime_state_timeout_seconds:g}; must be less"
                f" than REALTIME_LEASE_SECONDS ({self.realtime_lease_seconds:g}), or one slow answer costs it"
            )
        rooms, channels = self.realtime_max_rooms_per_session, self.realtime_max_channels_per_user
        if rooms < channels + OWN_ROOMS:
            wrong.append(
                f"REALTIME_MAX_ROOMS_PER_SESSION: got {rooms}; must be at least {OWN_ROOMS} more than"
                f" REALTIME_MAX_CHANNELS_PER_USER ({channels}), for each channel is a room"
            )
        return wrong

    def check_host(self, host: str) -> None:
        """Raise SettingsError if this process must not listen on `host`: a demo trusts all who reach it."""
        if self.demo and not is_loopback(host):
            raise SettingsError(
                f"REALTIME_DEMO: a demo listens on loopback only; got host {host!r}, use 127.0.0.1"
            )

    @property
    def secret_key(self) -> str:
        """The key that signs tokens; in a demo without one, a well-known key."""
        return self.webui_secret_key.get_secret_value()

    @property
    def instance_tag(self) -> str:
        """What the session ids of this instance begin with."""
        return self.realtime_instance_tag or tag_of(self.realtime_instance_name)

    @property
    def transports(self) -> list[Literal["websocket", "polling"]]:
        """Engine.IO transports that a client may use."""
        return ["websocket", "polling"] if self.enable_websocket_support else ["polling"]

    @property
    def cors_origins(self) -> Literal["*"] | list[str] | None:
        """As python-engineio's `cors_allowed_origins`: None is same origin only.

        Never an empty list: that would switch the check off.
        """
        if self.cors_allow_origin.strip() == "*":
            return "*"
        return urls.parse_origins(self.cors_allow_origin) or None

    @property
    def channel_event_types(self) -> frozenset[str]:
        """Types of `channel-events` that are relayed; `{"*"}` stands for all, see `allows_channel_event`."""
        return frozenset(word.strip() for word in self.realtime_channel_event_types.split(","))

    def allows_channel_event(self, event_type: str) -> bool:
        types = self.channel_event_types
        return "*" in types or event_type in types

    @property
    def redis_url(self) -> str | None:
        """The address of Redis in redis-py's schemes; None without the Redis manager."""
        return urls.redis_client_url(self.websocket_redis_url) if self.websocket_manager else None

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        """Host and port of each Sentinel, or empty; the service's name is the host of `redis_url`."""
        return urls.parse_sentinels(self.websocket_sentinel_hosts, self.websocket_sentinel_port)

    @property
    def state_key_prefix(self) -> str:
        """What every key of the shared state starts with: one hash tag, so one slot of a cluster."""
        return f"{{{self.redis_key_prefix}:realtime}}"

    @property
    def async_database_url(self) -> str:
        """`database_url` with its asynchronous driver.

        Looked at only here: an application with a directory of its own may have any database under that name.

        Raises:
            SettingsError: neither an SQLite file nor PostgreSQL.
        """
        try:
            return urls.async_database_url(self.database_url)
        except ValueError:
            pass  # its text may carry what is secret
        raise SettingsError(_unusable("database_url"))


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment; `overrides` (field names) go before it, unless they are None.

    Raises:
        SettingsError: one line for each bad setting: its environment name, what was given (never a secret),
            what is allowed.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [_line(detail) for detail in error.errors(include_url=False)]
    # Outside the handler: the chained ValidationError would carry the values into the traceback.
    raise SettingsError("\n".join(lines))


def _unusable(field: str) -> str:
    allowed = Settings.model_fields[field].description
    return f"{environment_name(field)}: not usable (its value is not shown); allowed: {allowed}"


def _line(detail: ErrorDetails) -> str:
    if not detail["loc"]:
        return str(detail["msg"]).removeprefix("Value error, ")
    field = str(detail["loc"][0])
    name = environment_name(field)
    if field not in Settings.model_fields:
        return f"{name}: there is no such setting"
    allowed = Settings.model_fields[field].description
    if field == "webui_secret_key" and detail["type"] == "value_error":
        return f"{name}: {str(detail['msg']).removeprefix('Value error, ')}; allowed: {allowed}"
    if field in _SECRETS:
        return _unusable(field)
    return f"{name}: got {urls.redacted(str(detail['input']))[:80]!r}; allowed: {allowed}"
