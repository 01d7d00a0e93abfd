"""Identifiers at the border."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.errors import InvalidPayload
from realtime.ids import check_id, check_ids, check_text


@pytest.mark.parametrize("value", ["a", "chat-1", "völlig normal", "☃", "a b", "x" * 256])
def test_a_usable_identifier_comes_back_unchanged(value: str) -> None:
    assert check_id(value, what="chat_id") == value


@pytest.mark.parametrize("value", [None, 1, True, b"bytes", ["list"], {}, 1.5])
def test_what_is_no_string_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidPayload, match="chat_id must be a string"):
        check_id(value, what="chat_id")


def test_an_empty_identifier_is_refused() -> None:
    with pytest.raises(InvalidPayload, match="must not be empty"):
        check_id("", what="chat_id")


def test_an_identifier_longer_than_the_limit_is_refused() -> None:
    assert check_id("x" * 8, what="chat_id", max_length=8)
    with pytest.raises(InvalidPayload, match="at most 8"):
        check_id("x" * 9, what="chat_id", max_length=8)


@pytest.mark.parametrize("number", [*range(32), 0x7F, 0xD800, 0xDFFF])
def test_control_characters_and_lone_surrogates_are_refused_wherever_they_stand(number: int) -> None:
    character = chr(number)
    for value in (character, "a" + character, character + "a", f"a{character}b"):
        with pytest.raises(InvalidPayload, match="control characters"):
            check_id(value, what="chat_id")


def test_identifiers_are_checked_one_by_one_and_a_text_is_no_list_of_them() -> None:
    assert check_ids(["a", "b"], what="user_ids") == ["a", "b"]
    assert check_ids((each for each in "ab"), what="user_ids") == ["a", "b"]
    assert check_ids([], what="user_ids") == []
    for bad in ("ab", "", None, 5):
        with pytest.raises(InvalidPayload, match="user_ids must be a list"):
            check_ids(bad, what="user_ids")
    for bad in (b"ab", ["a", None], ["a", ""]):
        with pytest.raises(InvalidPayload, match="each of user_ids must"):
            check_ids(bad, what="user_ids")


@given(st.text(st.characters(codec=None, categories=None)))
def test_whatever_passes_can_be_encoded_and_is_one_line(value: str) -> None:
    try:
        check_id(value, what="chat_id")
    except InvalidPayload:
        return
    assert value.encode()
    assert "\n" not in value
    assert "\0" not in value


def test_text_may_have_line_breaks_but_nothing_that_no_store_keeps() -> None:
    assert check_text("two\r\nlines\t", what="message") == "two\r\nlines\t"
    assert check_text("", what="message") == ""
    for bad in ("\0", "a\ud800", 3, None):
        with pytest.raises(InvalidPayload, match="message must"):
            check_text(bad, what="message")
