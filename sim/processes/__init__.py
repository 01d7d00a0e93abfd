"""The lab of real things: Redis servers, clusters, sentinels and instances, each a process on a port of its own.

Everything listens on 127.0.0.1, keeps its files in a temporary folder, waits for nothing without a bound and ends its
processes by their id. Calls block for up to a few seconds; in async code use `async with` for start and stop, and
`asyncio.to_thread` for the rest.
"""
