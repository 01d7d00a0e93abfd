-- Registers sessions under a lease, or changes registered ones: user, rooms and token become what is given. A session
-- that changes its user leaves the old one in the same step.
-- ARGV[2] lease  ARGV[3] most sessions of one user (0: no bound)
-- then for each session: sid, user, data, jti or "", issued at in ms or "", rooms as lines
-- Returns {"lost"} if the lease was reaped, else {"ok", epoch, version, now, an outcome per session}.
local lease, cap = ARGV[2], tonumber(ARGV[3])
if not redis.call('ZSCORE', LEASES, lease) then
  return { 'lost' }
end
local now = now_ms()
local outcomes, lines = {}, {}
local rooms_changed = false

local function add(sid, user, data, rooms)
  touch_user(user)
  local record = user .. '\n' .. lease .. '\n' .. data
  if rooms ~= '' then
    record = record .. '\n' .. rooms
  end
  redis.call('HSET', SESSIONS, sid, record)
  redis.call('ZADD', root .. ':instance:' .. lease, digits(now), sid)
  local sids = redis.call('HGET', USERS, user)
  redis.call('HSET', USERS, user, sids and sids .. '\n' .. sid or sid)
  for _, room in ipairs(split(rooms)) do
    count_in_room(room, user, 1)
  end
end

for i = 4, #ARGV, 6 do
  local sid, user, data, jti, issued, rooms = unpack(ARGV, i, i + 5)
  local old = session_record(sid)
  local same_user = old and old.user == user
  if is_revoked(jti, user, issued) then
    outcomes[#outcomes + 1] = 'revoked'
  elseif cap > 0 and not same_user and #split(redis.call('HGET', USERS, user) or '') >= cap then
    outcomes[#outcomes + 1] = 'limit'
  else
    if old then
      forget(sid, old)
      if not same_user then
        forget_usage(sid, now, lines)
      end
      rooms_changed = rooms_changed or table.concat(old.rooms, '\n') ~= rooms
    end
    add(sid, user, data, rooms)
    outcomes[#outcomes + 1] = 'ok'
  end
end
local reply = { 'ok', epoch(), digits(announce(presence_lines(lines, rooms_changed))), digits(now) }
for _, outcome in ipairs(outcomes) do
  reply[#reply + 1] = outcome
end
return reply
