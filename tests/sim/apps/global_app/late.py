"""Imported inside of a handler."""

seen: list[str] = []
