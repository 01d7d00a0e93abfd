"""`get_event_call`: an answer from exactly the session that was asked, or a typed error, and nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from realtime.errors import (
    CallTimeout,
    Forbidden,
    InvalidPayload,
    RealtimeError,
    SessionGone,
    StateUnavailable,
)
from realtime.server import RealtimeServer
from tests.events.conftest import MakeFleet
from tests.events.lab import (
    TRANSPORTS,
    Client,
    Failing,
    Fleet,
    Gate,
    breaks,
    client,
    heard,
    join_as,
    lose,
    make_settings,
    people,
    until,
)

pytestmark = pytest.mark.usefixtures("no_tracebacks")

EVENT = {"type": "execute", "data": {"code": "1+1"}}


def call(server: RealtimeServer, it: Client, user_id: str = "bob", **options: Any) -> asyncio.Task[Any]:
    info = {"user_id": user_id, "session_id": it.sid, "chat_id": "c", "message_id": "m"}
    return asyncio.create_task(server.get_event_call(info, **options)(EVENT))


def nothing_waits(fleet: Fleet) -> bool:
    return not any(
        len(server.manager.waiting)
        or server.emitters._awaited
        or any(member.asks for member in server.manager.book.members.values())
        for server in fleet.servers
    )


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_answer_of_a_session_on_any_instance_is_returned(
    make_pair: MakeFleet, transport: str
) -> None:
    answers = [{"result": 2}, None, [1, [2]], "text", 0, False]
    asked = itertools.count()
    async with (
        make_pair() as fleet,
        client(
            fleet.two.url, "bob", transports=(transport,), on_call=lambda _: answers[next(asked) // 2]
        ) as bob,
        client(fleet.two.url, "bob", on_call=lambda _: "another tab") as other,
    ):
        for answer in answers:
            for server in fleet.servers:
                assert await call(server, bob) == answer
        assert bob.of("chat-events") == 12 * [{"chat_id": "c", "message_id": "m", "data": EVENT}]
        assert "chat-events" not in dict(await heard(other))
        await until(lambda: nothing_waits(fleet))


async def test_an_embedded_instance_calls_its_sessions(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "bob", on_call=lambda _: "yes") as bob:
        assert await call(fleet.one.server, bob) == "yes"


async def test_a_session_of_another_user_is_not_asked(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "bob", on_call=lambda _: "secret") as bob:
        for resume in (False, True):
            with pytest.raises(Forbidden):
                await call(fleet.one.server, bob, "ann", resume=resume)
        assert "chat-events" not in dict(await heard(bob))
        assert nothing_waits(fleet)


async def test_a_session_that_became_another_users_is_not_asked(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "bob", on_call=lambda _: "secret") as tab:
        await join_as(tab, "eve")
        with pytest.raises(Forbidden):
            await call(fleet.one.server, tab)
        assert await call(fleet.one.server, tab, "eve") == "secret"


async def test_a_call_ends_when_its_session_becomes_another_users(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "bob") as tab:
        release = asyncio.Event()

        async def answer(*_: Any) -> str:
            tab.seen.append(("asked", None))
            await release.wait()
            return "eve's answer"

        tab.sio.on("chat-events", answer)
        asked = [call(server, tab) for server in fleet.servers]
        await until(lambda: len(tab.of("asked")) == len(asked))
        assert await join_as(tab, "eve") == {"id": "eve", "name": "Eve"}
        for each in asked:
            with pytest.raises(SessionGone):
                await asyncio.wait_for(each, 5)
        release.set()
        late = fleet.two.server.manager.counters
        await until(lambda: late.callbacks_unknown == len(asked))
        assert nothing_waits(fleet)


async def test_a_question_that_crosses_a_switch_does_not_reach_the_other_user(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "bob", on_call=lambda _: "eve's answer") as tab:
        gates = [Gate(server.state, "session", after=True) for server in fleet.servers]
        asked = [call(server, tab) for server in fleet.servers]
        for gate in gates:
            await gate.wait()
        assert await join_as(tab, "eve") == {"id": "eve", "name": "Eve"}
        for gate in gates:
            gate.open()
        for each in asked:
            with pytest.raises(SessionGone):
                await asyncio.wait_for(each, 5)
        assert "chat-events" not in dict(await heard(tab))
        assert nothing_waits(fleet)


async def test_a_resuming_call_asks_a_session_again_that_was_only_just_signing_in(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, on_call=lambda _: "signed in") as tab:
        home = fleet.two.server
        gate = Gate(home.revocations, "hit")  # registered, and in no room yet
        joining = asyncio.create_task(join_as(tab, "bob"))
        await gate.wait()
        asked = call(fleet.one.server, tab, resume=True)
        gone = home.manager.counters if fleet.one is fleet.two else fleet.one.server.manager.counters
        await until(lambda: gone.calls_gone)
        gate.open()
        await joining
        assert await asyncio.wait_for(asked, 5) == "signed in"
        await until(lambda: nothing_waits(fleet))


async def test_a_call_that_nobody_answers_times_out_and_leaves_nothing_on_any_instance(
    make_fleet: MakeFleet,
) -> None:
    release = asyncio.Event()

    async with (
        make_fleet(websocket_event_caller_timeout=0.3) as fleet,
        client(fleet.two.url, "bob") as bob,
    ):

        async def answer(*_: Any) -> str:
            await release.wait()
            return "late"

        bob.sio.on("chat-events", answer)
        for server in fleet.servers:
            with pytest.raises(CallTimeout) as caught:
                await call(server, bob)
            assert isinstance(caught.value, RealtimeError)
            assert not isinstance(caught.value, asyncio.TimeoutError)
        await until(lambda: nothing_waits(fleet), what="nothing to wait any more")
        release.set()  # the late answers are nobody's
        await heard(bob)
        assert nothing_waits(fleet)


async def test_a_call_that_is_cancelled_leaves_nothing(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "bob") as bob:
        await answered_never(bob)
        asked = call(fleet.one.server, bob)
        await until(lambda: not nothing_waits(fleet))
        asked.cancel()
        await asyncio.wait([asked])
        await until(lambda: nothing_waits(fleet))


async def answered_never(it: Client) -> None:
    async def never(*_: Any) -> None:
        it.seen.append(("asked", None))
        await asyncio.Event().wait()

    it.sio.on("chat-events", never)


async def test_a_session_that_never_was_is_gone_at_once(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet:
        asking = fleet.one.server.get_event_call({"user_id": "bob", "session_id": "nobody"})
        async with asyncio.timeout(5):
            with pytest.raises(SessionGone):
                await asking(EVENT)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_call_ends_when_its_session_closes(make_fleet: MakeFleet, transport: str) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "bob", transports=(transport,)) as bob:
        await answered_never(bob)
        asked = call(fleet.one.server, bob)
        await bob.wait_for("asked")
        await bob.sio.disconnect()
        async with asyncio.timeout(5):
            with pytest.raises(SessionGone):
                await asked
        await until(lambda: nothing_waits(fleet))


async def test_a_question_that_crosses_the_end_of_its_session_is_answered_at_once(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "bob") as bob:
        gate = Gate(fleet.one.server.state, "session", after=True)
        asked = call(fleet.one.server, bob)
        await gate.wait()
        sid = bob.sid
        await bob.sio.disconnect()
        await until(lambda: fleet.two.server.wire.is_gone(sid))
        gate.open()
        async with asyncio.timeout(5):
            with pytest.raises(SessionGone):
                await asked
        await until(lambda: nothing_waits(fleet))


async def test_a_resuming_call_goes_on_with_another_tab(make_fleet: MakeFleet) -> None:
    async with (
        make_fleet() as fleet,
        client(fleet.one.url, "bob", on_call=lambda _: "other tab") as other,
        client(fleet.two.url, "bob") as bob,
    ):
        await answered_never(bob)
        asked = call(fleet.one.server, bob, resume=True)
        await bob.wait_for("asked")
        assert "chat-events" not in dict(await heard(other))
        await bob.sio.disconnect()
        assert await asyncio.wait_for(asked, 5) == "other tab"
        await until(lambda: nothing_waits(fleet))


async def test_a_resuming_call_goes_on_after_a_reload_and_does_not_hammer_the_state(
    make_fleet: MakeFleet,
) -> None:
    async with make_fleet() as fleet:
        async with client(fleet.two.url, "bob") as bob:
            await answered_never(bob)
            asked = call(fleet.one.server, bob, resume=True)
            await bob.wait_for("asked")
        looks: list[float] = []
        state, loop = fleet.one.server.state, asyncio.get_running_loop()
        look = state.sessions_of

        async def counted(user_id: str) -> Any:
            looks.append(loop.time())
            return await look(user_id)

        state.sessions_of = counted  # type: ignore[method-assign]
        await until(lambda: len(looks) >= 3)
        async with client(fleet.two.url, "bob", on_call=lambda _: "reloaded"):
            assert await asyncio.wait_for(asked, 5) == "reloaded"
        pauses = [later - earlier for earlier, later in itertools.pairwise(looks)]
        assert pauses[0] >= 0.2
        assert pauses[1] >= 2 * 0.9 * 0.25
        await until(lambda: nothing_waits(fleet))


async def test_a_resuming_call_times_out_when_nobody_comes_back(make_fleet: MakeFleet) -> None:
    async with make_fleet(websocket_event_caller_timeout=0.6) as fleet:
        asking = fleet.one.server.get_event_call({"user_id": "bob", "session_id": "gone"}, resume=True)
        with pytest.raises(CallTimeout):
            await asking(EVENT)
        assert nothing_waits(fleet)


async def reap(fleet: Fleet) -> None:
    """As if the second instance had been killed long ago: its lease is past its end."""
    dead, alive = fleet.two.server, fleet.one.server
    dead.leases._released = True  # it renews no more
    await alive.state.release(dead.leases.lease())
    while (await alive.state.reap()).more:
        pass


async def test_a_call_to_a_session_of_a_killed_instance_ends_when_its_lease_is_reaped(
    make_pair: MakeFleet,
) -> None:
    async with make_pair() as fleet, client(fleet.two.url, "bob") as bob:
        await answered_never(bob)
        asked = call(fleet.one.server, bob)
        await bob.wait_for("asked")
        await reap(fleet)
        async with asyncio.timeout(5):
            with pytest.raises(SessionGone):
                await asked
        assert not fleet.one.server.emitters._awaited
        assert len(fleet.one.server.manager.waiting) == 0


async def test_a_session_that_is_still_to_be_removed_with_its_reaped_lease_counts_as_gone(
    make_pair: MakeFleet,
) -> None:
    async with make_pair() as fleet, client(fleet.two.url, "bob") as bob:
        await answered_never(bob)
        asked = call(fleet.one.server, bob)
        await bob.wait_for("asked")
        fleet.two.server.leases._released = True
        for server in fleet.servers:  # a thousand sessions would come before this one
            breaks(server.state, "reap", StateUnavailable())
        await fleet.one.server.state.release(fleet.two.server.leases.lease())
        assert await fleet.one.server.state.session(bob.sid) is not None
        async with asyncio.timeout(5):
            with pytest.raises(SessionGone):
                await asked


@pytest.mark.parametrize("look_up_fails", [False, True])
async def test_a_call_to_a_killed_instance_ends_even_if_the_news_was_lost(
    make_pair: MakeFleet, look_up_fails: bool
) -> None:
    async with make_pair() as fleet, client(fleet.two.url, "bob") as bob:
        one = fleet.one.server
        await answered_never(bob)
        asked = call(one, bob)
        await bob.wait_for("asked")
        lose(one, lambda change: change.reaped)
        if look_up_fails:
            fails = Failing(one.state, "leases", StateUnavailable())
            await reap(fleet)
            await until(lambda: fails.failed)
            fails.mend()
        else:
            await reap(fleet)
        async with asyncio.timeout(10):
            with pytest.raises(SessionGone):
                await asked


async def test_a_look_up_that_crosses_the_news_of_the_reaping_does_not_wait_for_the_time_out(
    make_pair: MakeFleet,
) -> None:
    async with make_pair() as fleet, client(fleet.two.url, "bob") as bob:
        await answered_never(bob)
        one = fleet.one.server
        first = itertools.count()
        gate = Gate(one.state, "session", after=True, when=lambda _: next(first) == 0)
        asked = call(one, bob)
        await gate.wait()
        await reap(fleet)
        await until(lambda: one.emitters._looking is not None and one.emitters._looking.done())
        # Nobody of the killed instance will say that the session is gone.
        fleet.two.server.manager.inbound._stopped = True
        gate.open()
        async with asyncio.timeout(5):
            with pytest.raises(SessionGone):
                await asked


async def test_a_call_while_the_state_is_away_is_a_typed_error(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "bob") as bob:
        breaks(fleet.one.server.state, "session", StateUnavailable())
        with pytest.raises(StateUnavailable):
            await call(fleet.one.server, bob)
        assert nothing_waits(fleet)


async def test_request_info_is_checked_when_the_call_is_made() -> None:
    server = RealtimeServer(make_settings(), people())
    wrong: list[dict[str, Any]] = [
        {},
        {"user_id": "bob"},
        {"session_id": "s"},
        {"user_id": "bob", "session_id": 5},
    ]
    for info in wrong:
        with pytest.raises(InvalidPayload):
            server.get_event_call(info)


async def test_a_question_that_is_not_json_is_a_typed_error_and_leaves_nothing(make_fleet: MakeFleet) -> None:
    async with make_fleet() as fleet, client(fleet.two.url, "bob", on_call=lambda _: "yes") as bob:
        asking = fleet.one.server.get_event_call({"user_id": "bob", "session_id": bob.sid})
        for data in (object(), float("inf"), {1}):
            with pytest.raises(InvalidPayload):
                await asking({"type": "x", "data": data})
        await until(lambda: nothing_waits(fleet))
        assert await asking(EVENT) == "yes"
