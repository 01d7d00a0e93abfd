"""The demo's page as people see it: in a real browser, on real instances."""

from __future__ import annotations

import secrets

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Arrive, Ground

pytestmark = [pytest.mark.browser, pytest.mark.e2e]


def user(name: str) -> str:
    """Nobody else's name."""
    return f"{name}-{secrets.token_hex(3)}"


def test_two_people_on_two_instances_see_each_other_come_type_chat_and_go(
    arrive: Arrive, ground: Ground
) -> None:
    ann = arrive(user("ann"), ground.instances[0].url)
    ann.sees_online(ann.name)
    bob = arrive(user("bob"), ground.instances[1].url)
    assert ann.instance != bob.instance
    for person in (ann, bob):
        person.sees_online(ann.name, bob.name)
    bob.write("Hello")
    expect(ann.typing).to_have_text(f"{bob.name} is typing")
    bob.send()
    ann.sees("Hello")
    expect(ann.typing).to_be_empty()
    bob.page.close()
    ann.sees_online(ann.name)
