"""Tokens: JSON Web Tokens signed with HS256 and the deployment's secret key."""

from __future__ import annotations

import functools
import json
import math
import secrets
import time
from dataclasses import dataclass

import jwt
from jwt.algorithms import HMACAlgorithm

from realtime.errors import InvalidPayload, InvalidToken, SettingsError, TokenExpired
from realtime.ids import check_id

_ALGORITHM = "HS256"
_MAX_TOKEN_LENGTH = 8192
_MAX_CLAIM_LENGTH = 256
# The end of year 9999: what lies beyond is an error of the issuer (milliseconds, most often), not a date.
_MAX_TIME = 253_402_300_799.0


class _HS256(HMACAlgorithm):
    """Adds to HMACAlgorithm.prepare_key: one key is looked at once, not with every token."""

    def __init__(self) -> None:
        super().__init__(HMACAlgorithm.SHA256)
        self._prepared = functools.lru_cache(maxsize=4)(super().prepare_key)

    def prepare_key(self, key: str | bytes) -> bytes:
        return self._prepared(key)


# Only the signature and the header are left to PyJWT: it would compare times with this machine's clock and in whole
# seconds, but a fleet's clock is Redis'. And it knows no other algorithm here.
_signed = jwt.PyJWS(algorithms=[])
_signed.register_algorithm(_ALGORITHM, _HS256())


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. Times are Unix seconds, with fractions; without `expires_at` it never expires."""

    user_id: str
    expires_at: float | None
    issued_at: float | None
    jti: str | None


def decode_token(token: str, secret: str, *, now: float | None = None, leeway: float = 0.0) -> Claims:
    """Check `token` and return its claims.

    `now` is the fleet's time in Unix seconds (default: this machine's), `leeway` how many seconds a token
    outlives its `exp` and may precede its `nbf`. Claim `id` is the user. Revocation is not known here.

    Raises:
        TokenExpired: signed by us, but past its `exp`.
        InvalidToken: anything else that is wrong with it, whatever was passed as a token.
        SettingsError: `secret` is empty.
    """
    payload = _verified_payload(token, secret)
    expires_at = _time(payload, "exp")
    not_before = _time(payload, "nbf")
    claims = Claims(
        user_id=_identifier(payload, "id"),
        expires_at=expires_at,
        issued_at=_time(payload, "iat"),
        jti=_identifier(payload, "jti") if "jti" in payload else None,
    )
    if now is None:
        now = time.time()
    if expires_at is not None and expires_at + leeway <= now:
        raise TokenExpired
    if not_before is not None and not_before - leeway > now:
        raise InvalidToken("The token is not valid yet: check the clock of the server that signed it.")
    return claims


def create_token(
    user_id: str, secret: str, *, expires_in: float | None, jti: str | None = None, now: float | None = None
) -> str:
    """A signed token for `user_id`, valid for `expires_in` seconds from `now`, or for ever if that is None.

    `now` is Unix seconds. `jti` names the token for revocation; a random one is made if none is given.

    Raises:
        InvalidPayload: an identifier that no token may carry, or a time out of range.
        SettingsError: `secret` is empty.
    """
    issued_at = time.time() if now is None else now
    payload: dict[str, str | float] = {
        "id": check_id(user_id, what="user_id", max_length=_MAX_CLAIM_LENGTH),
        "iat": issued_at,
        "jti": secrets.token_hex(16)
        if jti is None
        else check_id(jti, what="jti", max_length=_MAX_CLAIM_LENGTH),
    }
    if expires_in is not None:
        expires_at = issued_at + expires_in
        if not math.isfinite(expires_at) or expires_at > _MAX_TIME:
            raise InvalidPayload("expires_in must be seconds that end before the year 10000, or None.")
        payload["exp"] = expires_at
    return jwt.encode(payload, _key(secret), algorithm=_ALGORITHM)


def _verified_payload(token: object, secret: str) -> dict[str, object]:
    key = _key(secret)
    if not isinstance(token, str) or len(token) > _MAX_TOKEN_LENGTH:
        raise InvalidToken
    try:
        payload = json.loads(_signed.decode(token, key, algorithms=[_ALGORITHM]))
    except Exception as error:
        # PyJWT lets other errors than its own out for some inputs; what a client sends must not choose them.
        raise InvalidToken from error
    if not isinstance(payload, dict) or payload.get("aud"):  # one that is meant for others
        raise InvalidToken
    return payload


def _key(secret: str) -> bytes:
    if not secret:
        raise SettingsError("WEBUI_SECRET_KEY: missing; tokens signed with an empty key protect nobody")
    return secret.encode()


def _identifier(payload: dict[str, object], name: str) -> str:
    try:
        return check_id(payload.get(name), what=name, max_length=_MAX_CLAIM_LENGTH)
    except InvalidPayload as error:
        raise InvalidToken(f"The token's claim {name!r} is not usable: sign in again.") from error


def _time(payload: dict[str, object], name: str) -> float | None:
    if name not in payload:
        return None
    value = payload[name]
    # bool is an int; and comparing first keeps integers too large for a float from raising.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MAX_TIME:
        raise InvalidToken(f"The token's claim {name!r} is not a time: sign in again.")
    return float(value)
