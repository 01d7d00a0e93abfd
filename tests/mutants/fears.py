"""The mutants that are feared most and that no rule makes: each would be a plausible slip, and does harm in silence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fear:
    """``before`` stands exactly once in the file; ``why`` says what goes wrong."""

    file: str
    before: str
    after: str
    why: str


FEARS = (
    Fear("state/scripts/_prelude.lua", "'%.0f'", "'%g'", "large numbers lose digits"),
    Fear("state/scripts/_prelude.lua", "1, true)", "1)", "ids are taken for patterns"),
    Fear(
        "state/scripts/_prelude.lua",
        "count == math.max(by, 0)",
        "count >= math.max(by, 0)",
        "every session's room change is news, not the first and last",
    ),
    Fear(
        "state/scripts/_prelude.lua",
        "(moves[user][room] or 0) + by",
        "by",
        "out and in again is taken for a move",
    ),
    Fear(
        "state/scripts/_prelude.lua",
        "tonumber(issued) <= tonumber(since)",
        "tonumber(issued) < tonumber(since)",
        "a token of the revocation's millisecond stays",
    ),
    Fear(
        "state/scripts/_prelude.lua",
        "tonumber(latest[2]) <= now",
        "tonumber(latest[2]) < now",
        "a model whose use ends now is kept when its session leaves",
    ),
    Fear(
        "state/scripts/acquire.lua",
        "redis.call('HSETNX', META, 'epoch', ARGV[5])",
        "redis.call('HSET', META, 'epoch', ARGV[5])",
        "every start begins a new epoch",
    ),
    Fear(
        "state/scripts/acquire.lua", "'(' .. digits(now)", "digits(now)", "a lease that ended now still lives"
    ),
    Fear(
        "state/scripts/lock_acquire.lua",
        "alive and held[1] ~= ARGV[3]",
        "false",
        "a lock that everybody gets",
    ),
    Fear(
        "state/scripts/lock_acquire.lua",
        "if not alive then",
        "if true then",
        "the fence grows though the lock stays in its hands",
    ),
    Fear(
        "state/scripts/lock_release.lua",
        "held[1] ~= ARGV[3] or ",
        "",
        "anybody may release, as the seed's lock lets them",
    ),
    Fear(
        "state/scripts/lock_release.lua",
        " or tonumber(held[2] or '0') <= now",
        "",
        "an expired lock is released with success",
    ),
    Fear("state/scripts/lock_release.lua", "<= now", "< now", "a lock that expires now is still held"),
    Fear(
        "state/scripts/lock_release.lua",
        "redis.call('HDEL', key, 'owner', 'expires')",
        "redis.call('DEL', key)",
        "the fence starts anew",
    ),
    Fear("state/scripts/lock_renew.lua", "held[1] ~= ARGV[3] or ", "", "anybody may renew"),
    Fear(
        "state/scripts/lock_renew.lua",
        " or tonumber(held[2] or '0') <= now",
        "",
        "an expired lock is renewed",
    ),
    Fear("state/scripts/models.lua", "'(' .. ", "", "a model whose use ends now is in use"),
    Fear(
        "state/scripts/reap.lua",
        "record and record.lease == lease",
        "record",
        "a session that moved to another lease goes with the old one",
    ),
    Fear("state/scripts/reap.lua", "ARGV[3] ~= '' and ", "", "nobody's judgement counts"),
    Fear(
        "state/scripts/reap.lua",
        "most - removed - 1",
        "most - removed",
        "one session more than was allowed goes",
    ),
    Fear(
        "state/scripts/reap.lua",
        "if redis.call('ZCARD', key) == 0 then",
        "if true then",
        "a lease is forgotten with sessions left under it",
    ),
    Fear(
        "state/scripts/register.lua",
        "not redis.call('ZSCORE', LEASES, lease)",
        "false",
        "a reaped lease registers sessions that nobody will ever reap",
    ),
    Fear(
        "state/scripts/register.lua",
        "cap > 0 and not same_user and ",
        "cap > 0 and ",
        "who is at the bound cannot change rooms",
    ),
    Fear("state/scripts/register.lua", ">= cap", "> cap", "one session more than the bound"),
    Fear(
        "state/scripts/renew.lua",
        "if stood then",
        "if tonumber(stood or 0) > now then",
        "a lease past its expiry is lost though nobody took anything",
    ),
    Fear("state/scripts/renew.lua", "if stood then", "if true then", "a reaped lease comes to life again"),
    Fear(
        "state/scripts/sweep.lua",
        "'-inf', digits(now), 'LIMIT'",
        "'-inf', '+inf', 'LIMIT'",
        "the cleaner eats fresh usage",
    ),
    Fear(
        "state/scripts/sweep.lua",
        "math.max(0, tonumber(first[2]) - now)",
        "tonumber(first[2])",
        "a moment is given for a duration",
    ),
    Fear(
        "state/scripts/touch.lua",
        "'ZADD', MODELS, 'GT'",
        "'ZADD', MODELS",
        "a short touch of one cuts short the use of another",
    ),
    Fear(
        "state/scripts/touch.lua",
        "model, 'GT', till, sid)",
        "model, till, sid)",
        "a short touch cuts a longer one short",
    ),
    Fear(
        "state/scripts/touch.lua",
        "(score and tonumber(score) > now)",
        "score",
        "models that ended long ago count to the bound",
    ),
    Fear("state/scripts/usage.lua", "MODELS, '(' .. now", "MODELS, now", "a model that ends now is listed"),
    Fear(
        "state/memory.py",
        "max(now + ttl_ms, self._models[model].get(sid, 0))",
        "now + ttl_ms",
        "a short touch cuts a longer one short, in memory",
    ),
    Fear(
        "state/memory.py",
        "lock.owner, lock.expires = None, 0",
        "del self._locks[name]",
        "the fence starts anew",
    ),
    Fear(
        "state/redis.py",
        "except NoScriptError:",
        "except ZeroDivisionError:",
        "a Redis that restarted knows no script",
    ),
    Fear(
        "state/redis.py",
        "usedforsecurity=False",
        "usedforsecurity=True",
        "a FIPS build of Python refuses the digest",
    ),
    Fear("state/redis.py", "cap, *fields)", "0, *fields)", "no bound on sessions"),
    Fear(
        "replica.py",
        "version == self.version + 1:\n                self._advance",
        "version > self.version:\n                self._advance",
        "a gap is skipped in silence",
    ),
    Fear(
        "replica.py",
        "snapshot.epoch == self.epoch and snapshot.version < self.version",
        "False",
        "an older snapshot overwrites what came meanwhile",
    ),
    Fear(
        "replica.py",
        'self._heard = ("", 0)\n        self._wanted',
        "self._wanted",
        "a fresh start looks like a step back",
    ),
    Fear(
        "replica.py",
        "before[0] == change.epoch and change.version <= before[1]",
        "False",
        "versions that went back and caught up are not noticed",
    ),
    Fear(
        "presence.py",
        "self._online.ordered.copy(), self._longest",
        "self._online.ordered, self._longest",
        "a queued list changes before it is sent",
    ),
    Fear(
        "presence.py",
        "if position == self._replica.position",
        "if True",
        "who was given an older list is passed over",
    ),
    Fear(
        "sessions.py",
        "for sid in sorted(sids):",
        "for sid in sids:",
        "two calls for the same sids wait for each other for ever",
    ),
    Fear(
        "sessions.py",
        "self._doubts.get(sid) == since",
        "sid in self._doubts",
        "a doubt that arose meanwhile is cleared with the old one",
    ),
    Fear(
        "sessions.py",
        "or sid in self._calls or sid in self._doubts",
        "",
        "a socket that closes while it registers stays for ever",
    ),
    Fear(
        "leasing.py",
        "self._lease_id, self._epoch, self._renewed_at = lease.id, lease.epoch, sent_at",
        "self._lease_id, self._epoch, self._renewed_at = lease.id, lease.epoch, loop.time()",
        "a lease is believed in for as long as its answer was under way",
    ),
    Fear(
        "leasing.py",
        "self._renewed_at, self._expiry_ms = sent_at, ",
        "self._renewed_at, self._expiry_ms = loop.time(), ",
        "a renewal is believed in for as long as its answer was under way",
    ),
    Fear(
        "leasing.py",
        " or renewal.stood_ms < self._expiry_ms",
        "",
        "after a failover that lost renewals others are taken for dead",
    ),
    Fear(
        "leasing.py",
        "secrets.token_hex(3)",
        "'same'",
        "an instance that restarts under its name takes over its old lease",
    ),
    Fear(
        "leasing.py",
        "while True:\n            self._now.clear()",
        "while True:",
        "who hurries once hurries for ever",
    ),
    Fear(
        "repairs.py",
        "reap(judge=self._leases.current)",
        "reap()",
        "a call that waited past its own lease still judges",
    ),
    Fear(
        "repairs.py",
        "local is not None and _same_token(local.session, session)",
        "local is not None",
        "a fresh token is refused for the old one",
    ),
    Fear(
        "housekeeping.py",
        "LEAD_SECONDS if self._leading else FOLLOW_SECONDS",
        "0.0",
        "everybody sweeps at the same moment",
    ),
    Fear(
        "housekeeping.py",
        "min(self._longest_sleep, LOOK_SECONDS, due)",
        "min(self._longest_sleep, due)",
        "a model that ends earlier than it was to is announced late",
    ),
    Fear(
        "housekeeping.py",
        "        except Exception as error:\n            _say(\"models' use",
        "        except ZeroDivisionError as error:\n            _say(\"models' use",
        "the cleaner dies for good with one error of the state",
    ),
    Fear(
        "housekeeping.py",
        "            self._leading = False\n",
        "",
        "who could not renew the lock goes on as if it were held",
    ),
    Fear(
        "shared_channels.py",
        "rooms = frozenset(self._channels(user_id))",
        "rooms = frozenset(members)",
        "who left a channel while the question was under way still sees its members",
    ),
    Fear(
        "shared_channels.py",
        "members |= await self._state.room_users(rooms[at : at + ROOMS_AT_ONCE])",
        "members = await self._state.room_users(rooms[at : at + ROOMS_AT_ONCE])",
        "of very many channels only the last count",
    ),
)
