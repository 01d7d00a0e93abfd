"""Tests of the shared state: every one of them on memory, fakeredis and a real server where that makes sense."""
