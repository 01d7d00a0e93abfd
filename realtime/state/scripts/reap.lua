-- Removes a bounded number of sessions whose lease expired or was released. The expiry is checked here, not by the
-- caller, and a lease loses its right in the same step in which its first session goes.
-- ARGV[2] most sessions to remove; fewer if they are in very many rooms, so that nobody waits long for Redis
-- ARGV[3] lease of the instance that asks, or "": one whose own has expired by now (the call waited while Redis stood
--         still, so the others could not renew theirs) judges nobody
-- Returns {number removed, 1 if more is to be done}.
local now = now_ms()
if ARGV[3] ~= '' and tonumber(redis.call('ZSCORE', LEASES, ARGV[3]) or '0') <= now then
  return { 0, 0 }
end
local lines = {}
for _, lease in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', digits(now))) do
  redis.call('ZREM', LEASES, lease)
  redis.call('ZADD', REAPING, digits(now), lease)
  lines[#lines + 1] = '~' .. lease
end
local most, rooms_left, removed = tonumber(ARGV[2]), 20000, 0
for _, lease in ipairs(redis.call('ZRANGE', REAPING, 0, -1)) do
  local key = root .. ':instance:' .. lease
  if removed < most then
    for _, sid in ipairs(redis.call('ZRANGE', key, 0, most - removed - 1)) do
      if rooms_left <= 0 then
        break
      end
      local record = session_record(sid)
      if record and record.lease == lease then
        rooms_left = rooms_left - #record.rooms
        forget(sid, record)
        forget_usage(sid, now, lines)
      end
      redis.call('ZREM', key, sid)
      removed = removed + 1
    end
  end
  if redis.call('ZCARD', key) == 0 then
    redis.call('ZREM', REAPING, lease)
  end
end
redis.call('ZREMRANGEBYSCORE', TOKENS, '-inf', digits(now))
announce(presence_lines(lines))
return { removed, redis.call('EXISTS', REAPING) }
