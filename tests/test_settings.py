"""Settings: what starts a server, what stops it, and what the error says and keeps to itself."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from realtime.app import create_app
from realtime.directory.memory import MemoryDirectory
from realtime.errors import SettingsError
from realtime.secret import DEMO_SECRET_KEY, weakness
from realtime.server import RealtimeServer
from realtime.settings import Settings, environment_name, load_settings
from realtime.urls import async_database_url, redacted

SECRET = "kM4pZ0qT8wY2cR6nV1xB5gH9jL3sD7fA"
REDIS = {"WEBSOCKET_MANAGER": "redis", "WEBSOCKET_REDIS_URL": "redis://127.0.0.1:6379/0"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a good key is set: nothing of the machine that runs the tests."""
    for field in Settings.model_fields:
        monkeypatch.delenv(environment_name(field), raising=False)
    monkeypatch.setenv("WEBUI_SECRET_KEY", SECRET)


def load(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], **overrides: object) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings(**overrides)


def refused(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> list[str]:
    """The lines of the error that this environment causes."""
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, environment)
    return str(caught.value).splitlines()


def test_a_key_is_all_that_must_be_set() -> None:
    settings = load_settings()
    assert settings.secret_key == SECRET
    assert not settings.demo
    assert settings.transports == ["websocket", "polling"]
    assert settings.cors_origins is None
    assert settings.redis_url is None
    assert settings.sentinels == []
    assert settings.async_database_url == "sqlite+aiosqlite:///./realtime.db"
    assert settings.state_key_prefix == "{open-webui:realtime}"
    assert settings.channel_event_types == {"typing"}
    assert settings.websocket_event_caller_timeout == 60
    assert (settings.websocket_server_ping_interval, settings.websocket_server_ping_timeout) == (25, 20)


def test_the_environment_is_read_and_overrides_go_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"REALTIME_LEASE_SECONDS": "9.5", "WEBSOCKET_SERVER_PING_INTERVAL": "0.3", **REDIS}
    settings = load(monkeypatch, environment, realtime_lease_seconds=7, database_url=None)
    assert settings.realtime_lease_seconds == 7
    assert settings.websocket_server_ping_interval == 0.3
    assert settings.redis_url == "redis://127.0.0.1:6379/0"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, {"REALTIME_LEASE_SECONDS": "", "WEBSOCKET_MANAGER": "", "REALTIME_DEMO": ""})
    assert settings.realtime_lease_seconds == 5
    assert not settings.demo


def test_only_the_documented_name_switches_a_demo_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load(monkeypatch, {"DEMO": "1", "demo": "1", "realtime_demo": "1"}).demo
    assert load(monkeypatch, {"REALTIME_DEMO": "true"}).demo


def test_instances_have_different_names() -> None:
    assert load_settings().realtime_instance_name != load_settings().realtime_instance_name


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("ENABLE_WEBSOCKET_SUPPORT", "maybe", "true or false"),
        ("REALTIME_DEMO", "2", "true or false"),
        ("WEBSOCKET_MANAGER", "kafka", '"redis"'),
        ("WEBSOCKET_SENTINEL_HOSTS", "a b", "host:port"),
        ("WEBSOCKET_SENTINEL_HOSTS", "a,,b", "host:port"),
        ("WEBSOCKET_SENTINEL_HOSTS", "a:0", "host:port"),
        ("WEBSOCKET_SENTINEL_HOSTS", "a:65536", "host:port"),
        ("WEBSOCKET_SENTINEL_PORT", "0", "from 1 to 65535"),
        ("WEBSOCKET_REDIS_LOCK_TIMEOUT", "0", "above 0"),
        ("WEBSOCKET_SERVER_PING_INTERVAL", "-1", "above 0"),
        ("WEBSOCKET_SERVER_PING_TIMEOUT", "soon", "seconds"),
        ("WEBSOCKET_EVENT_CALLER_TIMEOUT", "nan", "above 0 and at most 86400"),
        ("REALTIME_LEASE_SECONDS", "inf", "at most 3600"),
        ("REALTIME_LEASE_SECONDS", "1e400", "at most 3600"),
        ("REALTIME_STATE_TIMEOUT_SECONDS", "61", "at most 60"),
        ("REALTIME_MAX_SESSIONS_PER_USER", "0", "from 1"),
        ("REALTIME_MAX_SESSIONS_PER_USER", "2.5", "whole number"),
        ("REALTIME_MAX_ID_LENGTH", "257", "to 256"),
        ("REALTIME_MAX_PAYLOAD_BYTES", "10", "from 1024"),
        ("REALTIME_USER_LIST_VISIBILITY", "nobody", '"channels"'),
        ("REALTIME_CHANNEL_EVENT_TYPES", "typing,,read", "separated by commas"),
        ("REALTIME_BUS_CHANNEL", "a b", "letters"),
        ("REALTIME_INSTANCE_NAME", "a b", "letters"),
        ("REDIS_KEY_PREFIX", "a{b}", "letters"),
        ("REDIS_KEY_PREFIX", "a\nb", "letters"),
        ("CORS_ALLOW_ORIGIN", "chat.example.org", "origins such as"),
        ("CORS_ALLOW_ORIGIN", "https://a.example/path", "origins such as"),
        ("CORS_ALLOW_ORIGIN", "https://a.example;*", "origins such as"),
        ("CORS_ALLOW_ORIGIN", "https://a.example,https://b.example", "origins such as"),
        ("CORS_ALLOW_ORIGIN", "https://*.example", "origins such as"),
        ("CORS_ALLOW_ORIGIN", "null", "origins such as"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_given_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    (line,) = refused(monkeypatch, {name: value})
    assert line.startswith(f"{name}: got {value!r}; allowed: ")
    assert allowed in line


BAD_REDIS_URLS = [
    "http://s3cret@h",
    "s3cret",
    "redis://",
    "redis:///0",
    "redis://:s3cret@h:99999",
    "redis://:s3cret@h/x",
    "unix://",
    "redis://[s3cret",
    "redis:s3cret@h",
]


@pytest.mark.parametrize("url", BAD_REDIS_URLS)
def test_a_bad_address_of_redis_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    (line,) = refused(monkeypatch, {**REDIS, "WEBSOCKET_REDIS_URL": url})
    assert line.startswith("WEBSOCKET_REDIS_URL: ")
    assert "valkeys://" in line
    assert "s3cret" not in line


@pytest.mark.parametrize(
    ("url", "client_url"),
    [
        ("redis://h", "redis://h"),
        ("rediss://u:p@h:1/2?ssl_cert_reqs=none", "rediss://u:p@h:1/2?ssl_cert_reqs=none"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("valkey://[::1]:6379", "redis://[::1]:6379"),
        ("valkeys://h/0", "rediss://h/0"),
    ],
)
def test_every_scheme_of_redis_and_valkey_is_accepted(
    monkeypatch: pytest.MonkeyPatch, url: str, client_url: str
) -> None:
    assert load(monkeypatch, {**REDIS, "WEBSOCKET_REDIS_URL": url}).redis_url == client_url


@pytest.mark.parametrize(
    ("url", "async_url"),
    [
        ("sqlite:///./x.db", "sqlite+aiosqlite:///./x.db"),
        ("sqlite+aiosqlite:////var/x.db", "sqlite+aiosqlite:////var/x.db"),
        ("postgres://u:p%40x@h/d", "postgresql+asyncpg://u:p%40x@h/d"),
        ("postgresql://u@h:1/d?sslmode=require", "postgresql+asyncpg://u@h:1/d?ssl=require"),
        ("postgresql+asyncpg:///d?host=/run/pg", "postgresql+asyncpg:///d?host=/run/pg"),
    ],
)
def test_database_addresses_get_the_asynchronous_driver(
    monkeypatch: pytest.MonkeyPatch, url: str, async_url: str
) -> None:
    assert load(monkeypatch, {"DATABASE_URL": url}).async_database_url == async_url
    assert async_database_url(async_url) == async_url


BAD_DATABASE_URLS = [
    "mysql://u:s3cret@h/d",
    "s3cret",
    "sqlite://",
    "sqlite:///",
    "sqlite:///:memory:",
    "sqlite:///file:s3cret?mode=memory",
    "postgresql://u:s3cret@h:99999/d",
    "postgresql+psycopg2://u:s3cret@h/d",
    "postgresql:s3cret",
]


@pytest.mark.parametrize("url", BAD_DATABASE_URLS)
def test_a_bad_database_address_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    settings = load(monkeypatch, {"DATABASE_URL": url})
    with pytest.raises(SettingsError) as caught:
        create_app(settings)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("DATABASE_URL: ")
    assert "sqlite:///FILE" in line
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", BAD_DATABASE_URLS)
def test_the_database_of_an_application_with_a_directory_of_its_own_is_its_own_affair(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    settings = load(monkeypatch, {"DATABASE_URL": url})
    RealtimeServer(settings, MemoryDirectory())
    create_app(settings, directory=MemoryDirectory())


WEAK_KEYS = [
    "t0p-s3cr3t",
    "k9Qz-T4vW-m2Xn-B7rL-p5Yc-H8sJ-d",
    "x" * 64,
    "secret" * 10,
    "ab" * 40,
    "correct-horse-" * 4,
    "a-string-secret-at-least-256-bits-long",
    "abcdefgabccfedgafbdcegabfcedgfabc",
    DEMO_SECRET_KEY,
    " " * 40,
]


@pytest.mark.parametrize("key", WEAK_KEYS)
def test_a_weak_key_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    (line,) = refused(monkeypatch, {"WEBUI_SECRET_KEY": key})
    assert line.startswith("WEBUI_SECRET_KEY: ")
    assert "at least 32 bytes" in line
    assert not key.strip() or key not in line


def test_a_missing_key_is_refused_with_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBUI_SECRET_KEY")
    (line,) = refused(monkeypatch, {})
    assert line.startswith("WEBUI_SECRET_KEY: missing; allowed: ")
    assert "token_urlsafe" in line


def test_a_demo_without_a_key_uses_the_same_well_known_one_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WEBUI_SECRET_KEY")
    assert load_settings(demo=True).secret_key == load_settings(demo=True).secret_key == DEMO_SECRET_KEY
    assert "demo" in DEMO_SECRET_KEY
    assert load(monkeypatch, {"WEBUI_SECRET_KEY": SECRET}, demo=True).secret_key == SECRET


def test_random_keys_are_strong_enough() -> None:
    assert [weakness(os.urandom(32).hex()) for _ in range(100)] == [None] * 100


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.example.org"])
def test_a_demo_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(SettingsError, match="REALTIME_DEMO"):
        load_settings(demo=True).check_host(host)
    load_settings().check_host(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_a_demo_may_listen_on_every_loopback_address(host: str) -> None:
    load_settings(demo=True).check_host(host)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"WEBSOCKET_MANAGER": "redis"}, "WEBSOCKET_REDIS_URL"),
        ({"WEBSOCKET_REDIS_URL": "redis://h"}, "WEBSOCKET_REDIS_URL"),
        ({"WEBSOCKET_SENTINEL_HOSTS": "h"}, "WEBSOCKET_SENTINEL_HOSTS"),
        ({"WEBSOCKET_REDIS_CLUSTER": "true"}, "WEBSOCKET_REDIS_CLUSTER"),
        (
            {**REDIS, "WEBSOCKET_REDIS_CLUSTER": "1", "WEBSOCKET_SENTINEL_HOSTS": "h"},
            "WEBSOCKET_REDIS_CLUSTER",
        ),
        (
            {**REDIS, "WEBSOCKET_REDIS_CLUSTER": "1", "WEBSOCKET_REDIS_URL": "unix:///x"},
            "WEBSOCKET_REDIS_URL",
        ),
        (
            {**REDIS, "WEBSOCKET_SENTINEL_HOSTS": "h", "WEBSOCKET_REDIS_URL": "unix:///x"},
            "WEBSOCKET_REDIS_URL",
        ),
        (
            {**REDIS, "WEBSOCKET_REDIS_CLUSTER": "1", "WEBSOCKET_REDIS_URL": "redis://h/3"},
            "WEBSOCKET_REDIS_URL",
        ),
        (
            {**REDIS, "WEBSOCKET_REDIS_CLUSTER": "1", "WEBSOCKET_REDIS_URL": "redis://h?db=3"},
            "WEBSOCKET_REDIS_URL",
        ),
        ({"REALTIME_STATE_TIMEOUT_SECONDS": "5"}, "REALTIME_STATE_TIMEOUT_SECONDS"),
        ({"REALTIME_LEASE_SECONDS": "1"}, "REALTIME_STATE_TIMEOUT_SECONDS"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str
) -> None:
    (line,) = refused(monkeypatch, environment)
    assert line.startswith(f"{name}: ")


def test_all_wrong_settings_are_told_at_once_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"WEBSOCKET_MANAGER": "x", "REALTIME_LEASE_SECONDS": "x", "WEBUI_SECRET_KEY": "x"}
    assert {line.partition(":")[0] for line in refused(monkeypatch, wrong)} == set(wrong)
    contradictory = {"WEBSOCKET_REDIS_URL": "redis://h", "REALTIME_LEASE_SECONDS": "1"}
    assert len(refused(monkeypatch, contradictory)) == 2


def test_an_override_that_is_no_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="REALTIME_LAESE_SECONDS: there is no such setting"):
        load_settings(realtime_laese_seconds=5)


def test_the_error_is_plain_language(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, {"REALTIME_LEASE_SECONDS": "x", "WEBUI_SECRET_KEY": "weak-s3cret"})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    for word in ("pydantic", "validation", "Value error", "Input should", "input_value", "weak-s3cret"):
        assert word not in str(caught.value)


def test_secrets_are_not_in_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"WEBSOCKET_MANAGER": "redis", "WEBSOCKET_REDIS_URL": "redis://:s3cret@h"}
    settings = load(monkeypatch, {**environment, "DATABASE_URL": "postgresql://u:s3cret@h/d"})
    assert "s3cret" not in repr(settings) + str(settings)
    assert SECRET not in repr(settings) + str(settings)
    with pytest.raises(ValidationError) as caught:
        Settings(webui_secret_key="weak-s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:p@h:1/2?password=p", "redis://***@h:1/2?***"),
        ("postgresql://u:p@x@h/d", "postgresql://***@h/d"),
        ("sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_addresses_are_logged_without_their_secrets(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_origins_are_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " https://Chat.Example.org/ ; http://localhost:5173;"
    settings = load(monkeypatch, {"CORS_ALLOW_ORIGIN": text})
    assert settings.cors_origins == ["https://chat.example.org", "http://localhost:5173"]
    assert load(monkeypatch, {"CORS_ALLOW_ORIGIN": "*"}).cors_origins == "*"


@pytest.mark.parametrize("text", [";", " ", " ; "])
def test_no_origin_at_all_is_same_origin_not_any_origin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    assert load(monkeypatch, {"CORS_ALLOW_ORIGIN": text}).cors_origins is None


def test_sentinels_have_a_common_port_or_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        **REDIS,
        "WEBSOCKET_SENTINEL_HOSTS": "a, b:7000,[::1],[::1]:7001",
        "WEBSOCKET_SENTINEL_PORT": "5",
    }
    assert load(monkeypatch, environment).sentinels == [("a", 5), ("b", 7000), ("::1", 5), ("::1", 7001)]


def test_without_websocket_support_there_is_only_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, {"ENABLE_WEBSOCKET_SUPPORT": "false"}).transports == ["polling"]


def test_channel_event_types_are_a_list_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    some = load(monkeypatch, {"REALTIME_CHANNEL_EVENT_TYPES": "typing, read"})
    assert (some.allows_channel_event("read"), some.allows_channel_event("else")) == (True, False)
    assert load(monkeypatch, {"REALTIME_CHANNEL_EVENT_TYPES": "*"}).allows_channel_event("else")


def test_every_setting_says_what_is_allowed() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def refusal(field: str, value: str) -> str | None:
    try:
        load_settings(**{field: value})
    except SettingsError as error:
        return str(error)
    return None


@pytest.mark.parametrize("field", [*Settings.model_fields])
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(value=st.text())
def test_any_text_is_accepted_or_refused_in_one_line_by_name(field: str, value: str) -> None:
    said = refusal(field, value)
    assert said is None or len(said.splitlines()) == 1
    # These two, valid by themselves, may contradict another setting, which is then the one to be named.
    if said is not None and field not in ("websocket_manager", "realtime_lease_seconds"):
        assert said.startswith(f"{environment_name(field)}: ")
