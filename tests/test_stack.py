"""One sentence through the whole: two instances, one Redis, two clients that see each other."""

from tests.support.stack import client, make_settings, running


async def test_two_users_on_two_instances_see_each_other(redis_url: str, redis_prefix: str) -> None:
    settings = [make_settings(redis_url, redis_key_prefix=redis_prefix) for _ in range(2)]
    async with (
        running(settings[0]) as one,
        running(settings[1]) as two,
        client(one.url, "ann") as ann,
        client(two.url, "bob", transports=("polling",)) as bob,
    ):
        await ann.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
        await bob.wait_for("user-list", lambda data: data == {"user_ids": ["ann", "bob"]})
        assert (
            await ann.sio.call("channel-events", {"channel_id": "general", "data": {"type": "typing"}})
            is None
        )
        said = await bob.wait_for("channel-events")
        assert said["user"]["id"] == "ann"
