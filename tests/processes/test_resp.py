"""What was published is read from what subscribers get of it."""

from __future__ import annotations

from sim.processes.resp import published


def test_what_was_said_is_the_last_word_of_a_published_message() -> None:
    assert published(b">3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$5\r\na\r\nbc\r\n") == b"a\r\nbc"
    assert published(b"*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$2\r\nch\r\n$0\r\n\r\n") == b""
    assert published(b">3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n") is None
