"""The tags of instances in session ids."""

from __future__ import annotations

import re
import string

import pytest

from realtime.errors import SettingsError
from realtime.settings import load_settings
from realtime.tags import TAG_LENGTH, new_sid, tag_in, tag_of

KEY = {"webui_secret_key": "a key of thirty-two bytes or more, for tests"}


def test_a_tag_is_short_lower_case_and_does_not_show_the_name() -> None:
    for name in ("api-1", "a", "X" * 100):
        tag = tag_of(name)
        assert re.fullmatch(r"[a-z0-9]{8}", tag)
        assert name.lower() not in tag


def test_a_tag_stays_the_same_for_ever_because_balancers_have_it_in_a_file() -> None:
    assert (tag_of("api-1"), tag_of("api-2")) == ("k34o524z", "y7s7hd47")


def test_ten_thousand_names_have_as_many_tags() -> None:
    assert len({tag_of(f"api-{number}") for number in range(10_000)}) == 10_000


def test_a_session_id_has_fifteen_random_bytes_after_its_tag_and_needs_no_quoting() -> None:
    sids = {new_sid("abcdefgh") for _ in range(1000)}
    assert len(sids) == 1000
    assert {sid[:TAG_LENGTH] for sid in sids} == {"abcdefgh"}
    assert {len(sid) - TAG_LENGTH for sid in sids} == {20}, "15 bytes, six bits to a character"
    assert set("".join(sids)) <= set(string.ascii_letters + string.digits + "-_")
    for place in range(TAG_LENGTH, TAG_LENGTH + 20):
        assert len({sid[place] for sid in sids}) > 32, f"character {place} is not random"


def test_the_tag_is_found_in_a_session_id_and_in_nothing_else() -> None:
    assert tag_in(new_sid("abcdefgh")) == "abcdefgh"
    for other in ("", "abcdefgh", new_sid(""), new_sid("abcdefgh") + "x", "ABCDEFGH" + "x" * 20, "x" * 27):
        assert tag_in(other) is None


def test_an_instances_tag_is_its_name_s_or_the_one_that_is_set() -> None:
    named = load_settings(realtime_instance_name="api-1", **KEY)
    assert named.instance_tag == tag_of("api-1")
    told = load_settings(realtime_instance_name="api-1", realtime_instance_tag="mytag001", **KEY)
    assert told.instance_tag == "mytag001"


@pytest.mark.parametrize("tag", ["short", "Abcdefgh", "abcdefghi", "abcdefg/", "abcdefg\n"])
def test_a_tag_of_another_form_is_refused_with_its_name(tag: str) -> None:
    with pytest.raises(SettingsError, match=r"REALTIME_INSTANCE_TAG: got .* 8 lower-case letters and digits"):
        load_settings(realtime_instance_tag=tag, **KEY)
