"""What is written down comes back; what is not ours is refused in one way only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.directory import User
from realtime.errors import InvalidPayload
from realtime.state import Change, Session, codec
from tests.state.budget import examples

lines = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)
anything = st.text(st.characters(exclude_categories=[]))


@examples(200)
@given(
    sid=lines,
    user=st.builds(User, lines, anything, anything, anything),
    rooms=st.frozensets(lines),
    jti=st.none() | lines,
    issued=st.none() | st.integers(0, 2**53),
    lease=lines,
)
def test_a_session_comes_back_as_it_was(
    sid: str, user: User, rooms: frozenset[str], jti: str | None, issued: int | None, lease: str
) -> None:
    session = Session(sid, user, rooms, jti, issued)
    fields = codec.session_fields(session)
    for field in fields:
        field.encode()
    record = "\n".join([fields[1], lease, fields[2], *([fields[5]] if fields[5] else [])])
    assert codec.parse_session(sid, record) == Session(sid, user, rooms, jti, issued, lease)


@examples(200)
@given(
    st.builds(
        Change,
        epoch=st.text("0123456789abcdef", min_size=1),
        version=st.integers(0, 2**53),
        at_ms=st.integers(0, 2**53),
        joins=st.lists(lines).map(tuple),
        leaves=st.lists(lines).map(tuple),
        started=st.lists(lines).map(tuple),
        ended=st.lists(lines).map(tuple),
        reaped=st.lists(lines).map(tuple),
        revoked_tokens=st.lists(lines).map(tuple),
        revoked_users=st.lists(lines).map(tuple),
        rooms_changed=st.booleans(),
    )
)
def test_a_change_comes_back_as_it_was(change: Change) -> None:
    written = [change.epoch, str(change.version), str(change.at_ms)]
    for mark, items in {
        "+": change.joins,
        "-": change.leaves,
        "*": change.started,
        "/": change.ended,
        "~": change.reaped,
        "t": change.revoked_tokens,
        "u": change.revoked_users,
    }.items():
        written += [mark + item for item in items]
    written += ["#"] if change.rooms_changed else []
    read = codec.parse_change("\n".join(written).encode())
    assert (read, read.at_ms) == (change, change.at_ms)


@examples(500)
@given(
    st.binary()
    | st.lists(st.sampled_from([b"e", b"1", b"5", b"+a", b"#", b"-", b"x", b"\xff", b"+"])).map(b"\n".join)
)
def test_garbage_is_a_value_error_and_nothing_else(message: bytes) -> None:
    try:
        codec.parse_change(message)
    except ValueError:
        pass


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"e",
        b"e\n",
        b"e\nx\n5",
        b"e\n-1\n5",
        b"e\n1.0\n5",
        b"e\n 1\n5",
        b"e\n1_0\n5",
        b"e\n1",
        b"e\n1\n",
        b"e\n1\nx",
        b"e\n1\n+ann",
        b"e\n1\n5\n",
        b"e\n1\n5\n?a",
        b"e\n\xff\n5",
        b"e\n" + b"9" * 5000 + b"\n5",
        b'{"version": 1}',
    ],
)
def test_what_is_no_change_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):
        codec.parse_change(message)


@pytest.mark.parametrize(
    "session",
    [
        Session("", User("u", "", "", "")),
        Session("s\n", User("u", "", "", "")),
        Session("s", User("u\nv", "", "", "")),
        Session("s", User("u", "", "", ""), frozenset({"a", "b\nc"})),
        Session("s", User("u", "", "", ""), frozenset({""})),
        Session("s", User("u", "", "", ""), jti="a\nb"),
    ],
)
def test_a_name_that_would_break_the_records_is_refused(session: Session) -> None:
    with pytest.raises(InvalidPayload):
        codec.session_fields(session)
