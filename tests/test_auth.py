"""Tokens: what is accepted, and that nothing a client sends gets past or out of `decode_token`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.auth import Claims, create_token, decode_token
from realtime.errors import InvalidPayload, InvalidToken, SettingsError, TokenExpired

SECRET = "kM4pZ0qT8wY2cR6nV1xB5gH9jL3sD7fA"
OTHER_SECRET = "a9F3kQ7zX1vN5mB8cT2yR6wE0pL4sJdH"


def _part(value: bytes | str) -> str:
    data = value if isinstance(value, bytes) else value.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(payload: str, *, header: str = '{"alg":"HS256","typ":"JWT"}', secret: str = SECRET) -> str:
    """A correctly signed token with exactly this JSON in it, also such that no library would write."""
    body = f"{_part(header)}.{_part(payload)}"
    return f"{body}.{_part(hmac.digest(secret.encode(), body.encode(), hashlib.sha256))}"


def test_a_created_token_carries_user_times_and_a_name() -> None:
    token = create_token("ann", SECRET, expires_in=60.5, jti="t1", now=1000.25)
    assert decode_token(token, SECRET, now=1001) == Claims("ann", 1060.75, 1000.25, "t1")


def test_each_token_gets_a_name_of_its_own() -> None:
    names = {decode_token(create_token("ann", SECRET, expires_in=60), SECRET).jti for _ in range(20)}
    assert len(names) == 20
    assert None not in names


def test_a_token_without_exp_never_expires() -> None:
    token = create_token("ann", SECRET, expires_in=None)
    assert decode_token(token, SECRET, now=1e11).expires_at is None


def test_a_token_of_another_issuer_needs_nothing_but_the_claim_id() -> None:
    assert decode_token(jwt.encode({"id": "ann"}, SECRET), SECRET) == Claims("ann", None, None, None)


def test_a_fractional_exp_is_kept_to_the_fraction() -> None:
    token = signed('{"id":"ann","exp":1000.5}')
    assert decode_token(token, SECRET, now=1000.49).expires_at == 1000.5
    for now in (1000.5, 1000.51):
        with pytest.raises(TokenExpired):
            decode_token(token, SECRET, now=now)


def test_leeway_is_seconds_after_exp_and_before_nbf() -> None:
    token = signed('{"id":"ann","exp":1000,"nbf":900}')
    decode_token(token, SECRET, now=1000.9, leeway=1)
    decode_token(token, SECRET, now=899.1, leeway=1)
    with pytest.raises(TokenExpired):
        decode_token(token, SECRET, now=1001, leeway=1)


def test_the_time_is_the_one_given_not_this_machines() -> None:
    token = create_token("ann", SECRET, expires_in=10, now=5_000_000_000)
    assert decode_token(token, SECRET, now=5_000_000_005).user_id == "ann"
    with pytest.raises(TokenExpired):
        decode_token(create_token("ann", SECRET, expires_in=10, now=1000), SECRET)


def test_a_token_is_refused_before_its_nbf() -> None:
    token = signed('{"id":"ann","nbf":1000}')
    with pytest.raises(InvalidToken, match="not valid yet"):
        decode_token(token, SECRET, now=999)
    assert decode_token(token, SECRET, now=1000).user_id == "ann"


def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(InvalidToken):
        decode_token(create_token("ann", OTHER_SECRET, expires_in=60), SECRET)


def test_a_token_without_signature_is_refused() -> None:
    unsigned = jwt.encode({"id": "ann"}, None, algorithm="none")
    body = unsigned.rpartition(".")[0]
    forged = [
        unsigned,
        body,
        body + ".x",
        body + "." + _part(""),
        signed('{"id":"ann"}', header='{"alg":"none"}'),
    ]
    for token in forged:
        with pytest.raises(InvalidToken):
            decode_token(token, SECRET)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
@pytest.mark.filterwarnings("ignore:The HMAC key")
def test_other_algorithms_are_refused_even_with_the_right_key(algorithm: str) -> None:
    with pytest.raises(InvalidToken):
        decode_token(jwt.encode({"id": "ann"}, SECRET, algorithm=algorithm), SECRET)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_is_noticed(position: int, flip: int) -> None:
    token = create_token("ann", SECRET, expires_in=None, jti="t1", now=0)
    head, payload, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    parts = [bytearray(head), bytearray(payload), bytearray(signature)]
    index = position % sum(map(len, parts))
    for part in parts:
        if index < len(part):
            part[index] ^= flip
            break
        index -= len(part)
    with pytest.raises(InvalidToken):
        decode_token(".".join(_part(bytes(part)) for part in parts), SECRET)


NO_TIMES = ["true", "false", '"99999999999"', "null", "[]", "{}", "1e400", "-1e400", "NaN", "Infinity"]
TIMES_OUT_OF_RANGE = ["1" + "0" * 400, "1" + "0" * 5000, "1e300", "1700000000000"]


@pytest.mark.parametrize("exp", NO_TIMES + TIMES_OUT_OF_RANGE)
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
def test_what_is_no_time_is_refused(claim: str, exp: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        decode_token(signed(f'{{"id":"ann","{claim}":{exp}}}'), SECRET, now=1000)
    assert not isinstance(caught.value, TokenExpired)


@pytest.mark.parametrize("exp", ["0", "-5", "999.999", "1000"])
def test_a_time_in_the_past_is_expired(exp: str) -> None:
    with pytest.raises(TokenExpired):
        decode_token(signed(f'{{"id":"ann","exp":{exp}}}'), SECRET, now=1000)


NOT_CLAIMS = ["[]", '"ann"', "null", "nonsense", "", "[" * 3000]
NOT_A_USER = [
    {},
    {"sub": "ann"},
    *({"id": value} for value in (1, "", None, ["ann"], "a\nb", "a\x00", "\ud800", "x" * 257)),
    *({"id": "ann", "jti": value} for value in (7, "", None, "x\n", "x" * 257)),
    {"id": "ann", "aud": "elsewhere"},
]


@pytest.mark.parametrize("payload", NOT_CLAIMS + [json.dumps(claims) for claims in NOT_A_USER])
def test_a_signed_token_with_unusable_claims_is_refused(payload: str) -> None:
    with pytest.raises(InvalidToken):
        decode_token(signed(payload), SECRET)


@pytest.mark.parametrize(
    "header", ["{}", "[]", '{"alg":5}', '{"alg":"HS256","crit":["x"]}', '{"alg":["HS256"]}']
)
def test_a_signed_token_with_an_odd_header_is_refused(header: str) -> None:
    with pytest.raises(InvalidToken):
        decode_token(signed('{"id":"ann"}', header=header), SECRET)


def test_a_token_is_not_even_looked_at_beyond_8_kib() -> None:
    assert decode_token(signed(json.dumps({"id": "ann", "x": "y" * 5000})), SECRET).user_id == "ann"
    with pytest.raises(InvalidToken):
        decode_token(signed(json.dumps({"id": "ann", "x": "y" * 9000})), SECRET)


@pytest.mark.parametrize("token", [None, 5, b"bytes", [], {}, True, 1.5, "x" * 1_000_000, ""])
def test_what_is_no_token_at_all_is_refused(token: object) -> None:
    with pytest.raises(InvalidToken):
        decode_token(token, SECRET)  # type: ignore[arg-type]


def _nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner) | st.dictionaries(st.text(), inner)


characters = st.characters(codec=None, categories=None)
anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), _nested)
segments = st.text(characters) | st.binary().map(_part) | anything.map(json.dumps).map(_part)


@given(st.text(characters) | st.lists(segments, max_size=5).map(".".join) | st.binary())
def test_no_input_brings_out_anything_but_invalid_token(token: str | bytes) -> None:
    with pytest.raises(InvalidToken):
        decode_token(token, SECRET)  # type: ignore[arg-type]


@given(st.dictionaries(st.sampled_from(["id", "exp", "iat", "nbf", "jti", "aud", "sub", "iss"]), anything))
def test_no_signed_claims_bring_out_anything_but_invalid_token(claims: dict[str, object]) -> None:
    try:
        decoded = decode_token(signed(json.dumps(claims)), SECRET, now=0)
    except InvalidToken:
        return
    assert decoded.user_id == claims["id"]
    assert decoded.expires_at is None or math.isfinite(decoded.expires_at)


@given(st.dictionaries(st.sampled_from(["alg", "typ", "crit", "b64", "kid", "jwk", "x5u"]), anything))
def test_no_header_brings_out_anything_but_invalid_token(header: dict[str, object]) -> None:
    token = signed('{"id":"ann"}', header=json.dumps(header))
    if header.get("alg") != "HS256":
        with pytest.raises(InvalidToken):
            decode_token(token, SECRET)


def test_an_empty_key_neither_signs_nor_verifies() -> None:
    with pytest.raises(SettingsError, match="WEBUI_SECRET_KEY"):
        create_token("ann", "", expires_in=60)
    with pytest.raises(SettingsError, match="WEBUI_SECRET_KEY"):
        decode_token(create_token("ann", SECRET, expires_in=60), "")


@pytest.mark.parametrize(
    ("user_id", "expires_in"), [("", 60), ("a\n", 60), ("ann", math.inf), ("ann", math.nan), ("ann", 1e12)]
)
def test_no_token_is_made_that_would_be_refused(user_id: str, expires_in: float) -> None:
    with pytest.raises(InvalidPayload):
        create_token(user_id, SECRET, expires_in=expires_in)
