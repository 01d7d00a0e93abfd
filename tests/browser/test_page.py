"""The demo's page as people see it: in a real browser, on real instances."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.browser.conftest import Arrive, Ground
from tests.browser.person import Person

pytestmark = [pytest.mark.browser, pytest.mark.e2e]

BACK_SECONDS = 10.0
LEFT_SECONDS = 8.0
"""Well below the pings, after which anybody is missed."""
LONGER_THAN_A_REQUEST_IS_TRIED_MS = 7000
ASKED_AGAIN_MS = 3000
MADE_UP = "How does a word get to every tab of mine?"
SHARE = "Share a thought with everybody"

WATCH_WORDS = """() => {
  window.lengths = new Set();
  new MutationObserver(() => {
    const says = document.querySelectorAll(".assistant .says");
    window.lengths.add(says[says.length - 1]?.textContent.length ?? 0);
  }).observe(document.getElementById("messages"), { childList: true, subtree: true, characterData: true });
}"""
WATCH_SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((each) => each.value)))
    .observe({ type: "layout-shift", buffered: false });
}"""
READ_AHEAD = """async () => {
  const { Chat } = await import("/demo/chat.js");
  const chat = new Chat("any", {});
  chat.put({ id: "1", kind: "assistant", author: "A", text: "one two", at: 0, done: false });
  chat.stream("1", { content: " two", at: 3 });
  chat.stream("1", { content: " three", at: 7 });
  return chat.posts.get("1").text;
}"""
IN_ORDER = """async () => {
  const { Chat } = await import("/demo/chat.js");
  const chat = new Chat("any", { empty: () => [] });
  chat.show();
  const put = (id, at, options) => chat.put({ id, kind: "person", author: "A", text: id, at, done: true }, options);
  put("mine", 1, { waiting: true });
  put("as it happened", 5);
  put("read later", 3, { old: true });
  put("mine too", 2, { waiting: true });
  put("mine", 4);
  return [...document.querySelectorAll("#messages .says")].map((each) => each.textContent);
}"""
CAME_AFTER_ALL = """async () => {
  const { Chat } = await import("/demo/chat.js");
  const chat = new Chat("any", { empty: () => [] });
  chat.show();
  const post = { id: "1", kind: "person", author: "A", text: "one", at: 1, done: true };
  chat.put(post, { waiting: true });
  chat.put(post);
  chat.fail("1", "the answer was lost", () => {});
  return document.querySelectorAll("#messages .failure").length;
}"""
TO_THE_END = """() => {
  const scroll = document.getElementById("scroll");
  return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
}"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "is_mobile": True}
FOCUSED = """() => {
  const at = document.activeElement;
  const style = getComputedStyle(at);
  const name = at.ariaLabel || at.labels?.[0]?.textContent || at.textContent || "";
  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return [at.id || at.dataset.chat || at.tagName, name.trim(), seen];
}"""


def user(name: str) -> str:
    """Nobody else's name."""
    return f"{name}-{secrets.token_hex(3)}"


def finished(person: Person) -> None:
    expect(person.page.locator(".post.assistant").last).not_to_have_class("post assistant streaming")
    expect(person.page.locator(".post.assistant .state").last).to_be_empty()


def test_two_people_on_two_instances_see_each_other_come_type_chat_and_go(
    arrive: Arrive, ground: Ground
) -> None:
    ann = arrive(user("ann"), ground.instances[0].url)
    ann.sees_online(ann.name)
    bob = arrive(user("bob"), ground.instances[1].url)
    assert ann.instance != bob.instance
    for person in (ann, bob):
        person.sees_online(ann.name, bob.name)
    text = f"Hello {secrets.token_hex(4)}"
    bob.write(text)
    expect(ann.typing).to_have_text(f"{bob.name} is typing")
    bob.send()
    for person in (ann, bob):
        person.sees(text)
    expect(ann.typing).to_be_empty()
    ann.open("ideas")
    bob.send(f"{text} again")
    expect(ann.page.locator("#chats button[data-chat=general] .unread")).to_have_text("1")
    ann.open("general")
    ann.sees(f"{text} again")
    bob.page.close()
    ann.sees_online(ann.name)


def test_a_killed_instance_is_survived_without_a_reload(arrive: Arrive, ground: Ground) -> None:
    ann = arrive(user("ann"))
    ann.page.evaluate("window.loaded = 'once'")
    there, other = sorted(ground.instances, key=lambda each: each.name != ann.instance)
    bob = arrive(user("bob"), other.url)
    there.kill()
    try:
        killed = time.monotonic()
        missed = f"while you were away {secrets.token_hex(4)}"
        bob.send(missed)
        expect(ann.page.locator("#connection-way")).to_contain_text(other.name, timeout=BACK_SECONDS * 1000)
        assert time.monotonic() - killed < BACK_SECONDS
        expect(ann.page.locator("#toast")).to_have_text(f"Connected again, to {other.name}")
        ann.sees(missed)
        ann.send(f"back {missed}")
        bob.sees(f"back {missed}")
        bob.sees_online(ann.name, bob.name)
        assert ann.page.evaluate("window.loaded") == "once"
    finally:
        there.start()


def test_what_is_sent_while_nothing_answers_arrives_once_when_something_does(
    arrive: Arrive, ground: Ground
) -> None:
    ann = arrive(user("ann"))
    ann.page.context.set_offline(True)
    text = f"sent offline {secrets.token_hex(4)}"
    ann.send(text)
    expect(ann.page.locator(".post.waiting .says")).to_have_text(text)
    ann.page.context.set_offline(False)
    expect(ann.page.locator(".post.waiting")).to_have_count(0)
    bob = arrive(user("bob"))
    for person in (ann, bob):
        person.sees(text)


def test_what_is_written_while_the_server_is_gone_is_kept_in_that_order_when_it_is_back(
    arrive: Arrive, ground: Ground
) -> None:
    instance = ground.instances[1]
    ann, mark = arrive(user("ann"), instance.url), secrets.token_hex(4)
    instance.kill()
    try:
        expect(ann.page.locator("#connection-state")).to_have_text("Reconnecting")
        for number in range(3):
            ann.send(f"{number} {mark}")
        ann.open("ideas")
        ann.send(f"3 {mark}")
        ann.page.wait_for_timeout(LONGER_THAN_A_REQUEST_IS_TRIED_MS)
        expect(ann.page.locator(".post.waiting .state")).to_have_text("sending")
    finally:
        instance.start()
    ann.connected()
    expect(ann.page.locator(".post.waiting")).to_have_count(0)
    bob = arrive(user("bob"))
    for person in (ann, bob):
        person.open("general")
        expect(person.says.filter(has_text=mark)).to_have_text([f"{number} {mark}" for number in range(3)])
        person.open("ideas")
        person.sees(f"3 {mark}")


def test_what_came_late_stands_where_it_belongs(arrive: Arrive) -> None:
    order = ["read later", "mine", "as it happened", "mine too"]
    assert arrive(user("ann")).page.evaluate(IN_ORDER) == order


def test_what_came_though_its_answer_was_lost_is_not_called_unsent(arrive: Arrive) -> None:
    assert arrive(user("ann")).page.evaluate(CAME_AFTER_ALL) == 0


def test_what_the_server_refuses_stays_and_can_be_sent_again(arrive: Arrive, ground: Ground) -> None:
    ann = arrive(user("ann"), ground.instances[0].url)
    ann.open("assistant")
    ann.send(MADE_UP)
    expect(ann.page.locator(".assistant .state")).to_have_text("answering")
    ann.send("And a second question")
    refused = ann.page.locator(".failure")
    expect(refused).to_contain_text("Not sent: the assistant is still answering you")
    finished(ann)
    refused.get_by_role("button", name="Send again").click()
    expect(refused).to_have_count(0)
    expect(ann.says.last).to_contain_text("You asked: “And a second question”")
    ann.sees("And a second question", times=2)


def test_what_was_missed_while_connected_is_read_when_the_chat_is_opened(arrive: Arrive) -> None:
    text = f"missed {secrets.token_hex(4)}"

    def without_that(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda message: None if text in str(message) else socket.send(message))

    ann, bob = arrive(user("ann")), arrive(user("bob"))
    ann.page.route_web_socket("**/*", without_that)
    ann.page.reload()
    ann.connected()
    for last in (text, "and this came"):
        bob.send(last)
        bob.sees(last)
    ann.sees("and this came")
    ann.sees(text, times=0)
    ann.open("ideas")
    ann.open("general")
    ann.sees(text)
    assert ann.says.all_inner_texts()[-2:] == [text, "and this came"]


def test_the_assistant_streams_word_by_word_and_nothing_moves(arrive: Arrive) -> None:
    ann, bob = arrive(user("ann")), arrive(user("bob"))
    ann.open("assistant")
    ann.page.evaluate(WATCH_WORDS)
    before = ann.page.locator("#composer").bounding_box()
    ann.send(MADE_UP)
    expect(ann.page.locator(".assistant .state")).to_have_text("answering")
    ann.page.evaluate(WATCH_SHIFTS)
    expect(bob.page.locator("#models li")).to_have_text(["quick-1"])
    finished(ann)
    assert len(ann.page.evaluate("[...window.lengths]")) > 20, "words came one by one, not all at once"
    assert sum(ann.page.evaluate("window.shifts")) < 0.01
    assert ann.page.locator("#composer").bounding_box() == before
    answer = ann.page.locator(".assistant .says").inner_text()
    assert answer.startswith(f"You asked: “{MADE_UP}” Nothing here is clever")
    assert answer.endswith("and no word twice.")
    expect(bob.page.locator("#no-models")).to_be_visible()
    ann.page.reload()
    ann.connected().open("assistant")
    expect(ann.page.locator(".assistant .says")).to_have_text(answer)


def test_the_assistant_posts_for_somebody_only_if_they_say_yes(arrive: Arrive) -> None:
    ann, bob = arrive(user("ann")), arrive(user("bob"))
    shared = bob.says.filter(has_text=f"at {ann.name}'s wish")
    ann.open("assistant")
    ann.send(SHARE)
    expect(ann.page.get_by_role("dialog")).to_contain_text("Post this to general?")
    ann.page.keyboard.press("Escape")
    expect(ann.says.last).to_contain_text("You said no, so I posted nothing.")
    finished(ann)
    ann.send(SHARE)
    ann.page.get_by_role("button", name="Yes, post it").click()
    expect(ann.says.last).to_contain_text("You said yes: it is in general now.")
    expect(shared).to_have_count(1)


def test_a_question_stays_open_while_the_connection_is_lost_and_its_answer_counts(arrive: Arrive) -> None:
    sockets: list[WebSocketRoute] = []

    def through(socket: WebSocketRoute) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    ann = arrive(user("ann"))
    ann.page.route_web_socket("**/*", through)
    ann.page.reload()
    ann.connected().open("assistant")
    ann.send(SHARE)
    expect(ann.page.get_by_role("dialog")).to_be_visible()
    sockets[-1].close()
    expect(ann.page.locator("#toast")).to_contain_text("Connected again")
    ann.page.wait_for_timeout(ASKED_AGAIN_MS)
    expect(ann.page.locator(".assistant .state")).to_have_text("waiting for you")
    ann.page.get_by_role("button", name="Yes, post it").click()
    expect(ann.says.last).to_contain_text("You said yes: it is in general now.")


def test_polling_only_works_by_the_switch(arrive: Arrive, ground: Ground) -> None:
    ann = arrive(user("ann"), ground.instances[0].url)
    ann.page.get_by_role("link", name="Use polling only").click()
    ann.connected()
    assert ann.transport == "polling"
    opened: list[str] = []
    ann.page.on("websocket", lambda socket: opened.append(socket.url))
    bob = arrive(user("bob"), ground.instances[1].url)
    assert bob.transport == "websocket"
    text = f"by polling {secrets.token_hex(4)}"
    ann.send(text)
    bob.sees(text)
    bob.send(f"answer to {text}")
    ann.sees(f"answer to {text}")
    assert opened == []


def test_where_no_websocket_gets_through_it_polls_by_itself(arrive: Arrive) -> None:
    def refuse(socket: WebSocketRoute) -> None:
        socket.close()

    ann = arrive(user("ann"))
    ann.page.route_web_socket("**/*", refuse)
    ann.page.reload()
    ann.connected()
    assert ann.transport == "polling"
    text = f"without websocket {secrets.token_hex(4)}"
    ann.send(text)
    ann.sees(text)


def test_a_tab_that_polls_is_gone_as_soon_as_it_is_left(arrive: Arrive, ground: Ground) -> None:
    ann = arrive(user("ann"))
    ann.page.get_by_role("link", name="Use polling only").click()
    ann.connected()
    assert ann.transport == "polling"
    bob = arrive(user("bob"))
    bob.sees_online(ann.name, bob.name)
    ann.page.goto("about:blank")
    expect(bob.online).to_have_text([bob.name], timeout=LEFT_SECONDS * 1000)


def test_a_second_tab_doubles_nothing(arrive: Arrive) -> None:
    bob = arrive(user("bob"))
    ann = arrive(user("ann"))
    again = arrive(ann.name, like=ann)
    everyone = (bob, ann, again)
    for person in everyone:
        person.sees_online(ann.name, bob.name)
        expect(person.page.locator("#online-count")).to_have_text("2")
    text = f"from the second tab {secrets.token_hex(4)}"
    again.write(text)
    expect(bob.typing).to_have_text(f"{ann.name} is typing")
    expect(ann.typing).to_be_empty()
    again.send()
    for person in everyone:
        person.sees(text)
    for tab in (ann, again):
        tab.open("assistant")
    again.send(MADE_UP)
    expect(ann.page.locator(".assistant .state")).to_have_text("answering")
    late = arrive(ann.name, like=ann)  # comes in the middle of the answer
    late.open("assistant")
    for tab in (ann, again, late):
        finished(tab)
    said = [tab.says.all_inner_texts() for tab in (ann, again, late)]
    assert said[0] == said[1] == said[2]
    assert len(said[0]) == 2
    for tab in (again, late):
        tab.page.close()
    bob.send(f"still there? {text}")
    ann.open("general")
    ann.sees(f"still there? {text}")
    bob.sees_online(ann.name, bob.name)


def test_a_word_that_comes_after_it_was_read_from_the_store_stands_there_once(arrive: Arrive) -> None:
    assert arrive(user("ann")).page.evaluate(READ_AHEAD) == "one two three"


def test_what_people_write_is_text_and_never_markup(arrive: Arrive) -> None:
    bob = arrive(user("bob"))
    name = f"<img src=x onerror=fail()>{secrets.token_hex(2)}"
    mallory = arrive(name)
    text = f"<script>fail()</script><img src=x onerror=fail()> {secrets.token_hex(4)}"
    mallory.write("x")
    expect(bob.typing).to_have_text(f"{name} is typing")
    mallory.send(text)
    bob.sees(text)
    bob.sees_online(name, bob.name)
    mallory.open("assistant")
    mallory.send(text)
    finished(mallory)
    mallory.sees(f"You asked: “{text}”")
    for person in (bob, mallory):
        assert person.page.locator("img, #room script").count() == 0
    with pytest.raises(Exception, match="TrustedHTML"):
        bob.page.evaluate("document.body.innerHTML = '<b>markup</b>'")
    bob.faults.clear()  # that one was ours


def test_names_and_texts_of_any_length_and_direction_widen_nothing(arrive: Arrive) -> None:
    ann = arrive(user("ann"), **PHONE)
    long, other = (arrive(letter * 34 + secrets.token_hex(3), **PHONE) for letter in "Wم")
    for text in ("x" * 1500, "word " * 300, "مرحبا بالعالم!"):
        long.send(text)
    expect(ann.says.last).to_have_text("مرحبا بالعالم!")
    expect(ann.says.last).to_have_css("direction", "rtl")
    other.write("م")
    long.write("W")
    expect(ann.typing).to_contain_text("are typing")
    for person in (ann, long, other):
        assert person.page.evaluate(WIDER) == 0
        assert person.page.evaluate(TO_THE_END) < 2, "the last message is in sight"
    ann.page.set_viewport_size({"width": 360, "height": 400})  # as when a keyboard opens
    ann.page.wait_for_function(f"({TO_THE_END})() < 2")
    ann.page.evaluate("document.getElementById('scroll').scrollTop = 0")
    long.send("Ann is reading what was said before")
    expect(ann.says.last).to_have_text("Ann is reading what was said before")
    assert ann.page.evaluate(TO_THE_END) > 1000, "who reads further up is left there"


def test_it_looks_as_the_readme_shows_it(arrive: Arrive, pictures: Path) -> None:
    wide = {"width": 1100, "height": 680}
    ann = arrive("Ann", viewport=wide)
    bob = arrive("Bob", viewport=wide, color_scheme="dark")
    cleo = arrive("Cleo", viewport={"width": 390, "height": 720}, device_scale_factor=1.5, is_mobile=True)
    people = (ann, bob, cleo)
    for person, other in ((ann, bob), (bob, cleo), (cleo, ann)):
        person.open("ideas")
        other.open("ideas")
        person.send(f"I am on {person.instance}. Where are you, {other.name}?")
        for each in people:
            each.open("ideas")
            each.sees(f"Where are you, {other.name}?")
    bob.open("assistant")
    bob.send(MADE_UP)
    expect(bob.says.last).to_contain_text("Each word is an event of its own")
    expect(ann.page.locator("#models li")).to_have_text(["quick-1"])
    cleo.write("Here")
    expect(ann.typing).to_have_text("Cleo is typing")
    for person, name in ((ann, "light"), (bob, "dark"), (cleo, "phone")):
        person.page.screenshot(path=pictures / f"page-{name}.png")
        assert person.page.evaluate(WIDER) == 0, "nothing to scroll sideways"
    paper = "getComputedStyle(document.body).backgroundColor"
    assert ann.page.evaluate(paper) == cleo.page.evaluate(paper) != bob.page.evaluate(paper)


def test_the_keyboard_is_enough_and_shows_where_it_is(arrive: Arrive) -> None:
    ann = arrive(user("ann"))
    keyboard = ann.page.keyboard
    assert ann.page.evaluate(FOCUSED) == ["text", "Message", True]
    stops = []
    for _ in range(9):
        keyboard.press("Tab")
        stops.append(ann.page.evaluate(FOCUSED))
    seen = {name for name, *_ in stops}
    assert {"sign-out", "general", "ideas", "assistant", "switch", "scroll", "text"} <= seen | {"text"}, stops
    assert all(told and visible for where, told, visible in stops if where != "BODY"), stops
    ann.page.locator("#chats button[data-chat=assistant]").focus()
    keyboard.press("Enter")
    assert ann.page.evaluate(FOCUSED)[0] == "text", "who opens a chat can write at once"
    keyboard.type(SHARE)
    keyboard.press("Enter")
    expect(ann.page.get_by_role("dialog")).to_be_visible()
    assert ann.page.evaluate(FOCUSED) == ["confirm-no", "No", True]
    keyboard.press("Tab")
    keyboard.press("Enter")
    expect(ann.says.last).to_contain_text("You said yes")
    expect(ann.page.locator("#text")).to_be_focused()
