-- What every script shares; it is put before each of them when they are loaded.
--
-- KEYS[1]  root of all state keys. It carries the hash tag, so every key below lies in one slot; the keys are made
--          from it here rather than passed one by one.
-- ARGV[1]  clock offset in milliseconds: 0 in production; tests move time with it.
--
-- Records are lines joined by "\n": the layer refuses ids that contain control characters, and JSON has no raw ones.
--
--   <root>:schema          STRING the layout of all this; it changes only when no instance holds a lease
--   <root>:meta            HASH  epoch, version
--   <root>:leases          ZSET  lease -> expiry, ms
--   <root>:reaping         ZSET  lease -> since, ms: no longer held, sessions still to be removed
--   <root>:instance:<l>    ZSET  sid -> registered at, ms
--   <root>:sessions        HASH  sid -> user, lease, data (JSON of the caller), room, room, ...
--   <root>:users           HASH  user -> sid, sid, ...: a user is online iff it has a field here
--   <root>:room:<r>        HASH  user -> number of its sessions in the room
--   <root>:usage           HASH  sid -> model, model, ...
--   <root>:model:<m>       ZSET  sid -> in use until, ms
--   <root>:models          ZSET  model -> the latest of those; a member is announced as in use
--   <root>:revoked:tokens  ZSET  jti -> token's own end, ms
--   <root>:revoked:users   ZSET  user -> revoked at, ms
--   <root>:lock:<n>        HASH  owner, expires, fence
--   <root>:changes         channel: epoch, version, when in ms, then a line per change; its first byte says which:
--                          + user joins, - user leaves, * model starts, / model ends, ~ lease reaped,
--                          t token revoked, u user revoked, # somebody's rooms changed

local root = KEYS[1]
local META, LEASES, REAPING = root .. ':meta', root .. ':leases', root .. ':reaping'
local SESSIONS, USERS = root .. ':sessions', root .. ':users'
local USAGE, MODELS = root .. ':usage', root .. ':models'
local TOKENS, REVOKED_USERS = root .. ':revoked:tokens', root .. ':revoked:users'

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[1])
end

-- Digits of a whole number: tostring() turns large ones into 1.8e+12.
local function digits(number)
  return string.format('%.0f', number)
end

local function split(record)
  local parts = {}
  if record and record ~= '' then
    for part in string.gmatch(record .. '\n', '([^\n]*)\n') do
      parts[#parts + 1] = part
    end
  end
  return parts
end

-- The record without one of its lines. Not by way of split(): a user may have thousands of sessions.
local function without(record, gone)
  local lines = '\n' .. record .. '\n'
  local first, last = string.find(lines, '\n' .. gone .. '\n', 1, true)
  if not first then
    return record
  end
  return string.sub(string.sub(lines, 1, first) .. string.sub(lines, last + 1), 2, -2)
end

local function version()
  return tonumber(redis.call('HGET', META, 'version') or '0')
end

local function epoch()
  return redis.call('HGET', META, 'epoch') or ''
end

-- Every change takes the next version and is published by the script that makes it.
local function announce(lines)
  if #lines == 0 then
    return version()
  end
  local next_version = redis.call('HINCRBY', META, 'version', 1)
  local head = epoch() .. '\n' .. digits(next_version) .. '\n' .. digits(now_ms()) .. '\n'
  redis.call('PUBLISH', root .. ':changes', head .. table.concat(lines, '\n'))
  return next_version
end

-- Users whose presence or rooms a script may change, as they were before it: only the net difference is announced.
local touched, was_online, moves = {}, {}, {}

local function touch_user(user)
  if was_online[user] == nil then
    was_online[user] = redis.call('HEXISTS', USERS, user) == 1
    moves[user] = {}
    touched[#touched + 1] = user
  end
end

local function presence_lines(lines, rooms_changed)
  for _, user in ipairs(touched) do
    local online = redis.call('HEXISTS', USERS, user) == 1
    if online and not was_online[user] then
      lines[#lines + 1] = '+' .. user
    elseif was_online[user] and not online then
      lines[#lines + 1] = '-' .. user
    elseif online then
      for _, by in pairs(moves[user]) do
        rooms_changed = rooms_changed or by ~= 0
      end
    end
  end
  if rooms_changed then
    lines[#lines + 1] = '#'
  end
  return lines
end

-- Counts a session of a (touched) user in or out of a room. The first in and the last out move the user.
local function count_in_room(room, user, by)
  local key = root .. ':room:' .. room
  local count = redis.call('HINCRBY', key, user, by)
  if count <= 0 then
    redis.call('HDEL', key, user)
  end
  if count == math.max(by, 0) then
    moves[user][room] = (moves[user][room] or 0) + by
  end
end

local function session_record(sid)
  local parts = split(redis.call('HGET', SESSIONS, sid) or '')
  if #parts == 0 then
    return nil
  end
  local rooms = {}
  for i = 4, #parts do
    rooms[#rooms + 1] = parts[i]
  end
  return { user = parts[1], lease = parts[2], data = parts[3], rooms = rooms }
end

-- Takes a session out of every index but that of usage.
local function forget(sid, record)
  touch_user(record.user)
  redis.call('HDEL', SESSIONS, sid)
  redis.call('ZREM', root .. ':instance:' .. record.lease, sid)
  local sids = without(redis.call('HGET', USERS, record.user) or '', sid)
  if sids == '' then
    redis.call('HDEL', USERS, record.user)
  else
    redis.call('HSET', USERS, record.user, sids)
  end
  for _, room in ipairs(record.rooms) do
    count_in_room(room, record.user, -1)
  end
end

-- Takes away what a session uses. A model that nobody else uses any more ends with it.
local function forget_usage(sid, now, lines)
  for _, model in ipairs(split(redis.call('HGET', USAGE, sid) or '')) do
    local key = root .. ':model:' .. model
    if redis.call('ZREM', key, sid) == 1 then
      local latest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
      if #latest == 0 or tonumber(latest[2]) <= now then
        redis.call('DEL', key)
        redis.call('ZREM', MODELS, model)
        lines[#lines + 1] = '/' .. model
      else
        redis.call('ZADD', MODELS, digits(tonumber(latest[2])), model)
      end
    end
  end
  redis.call('HDEL', USAGE, sid)
end

local function is_revoked(jti, user, issued)
  if jti ~= '' and redis.call('ZSCORE', TOKENS, jti) then
    return true
  end
  local since = redis.call('ZSCORE', REVOKED_USERS, user)
  return since and (issued == '' or tonumber(issued) <= tonumber(since)) or false
end
