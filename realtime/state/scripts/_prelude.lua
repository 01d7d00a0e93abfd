-- What every script shares; it is put before each of them when they are loaded.
--
-- KEYS[1]  root of all state keys. It carries the hash tag, so every key below lies in one slot; the keys are made
--          from it here rather than passed one by one.
-- ARGV[1]  clock offset in milliseconds: 0 in production; tests move time with it.
--
-- Records are lines joined by "\n": the layer refuses ids that contain control characters, and JSON has no raw ones.
--
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
--   <root>:changes         channel: epoch, version, then a line per change; its first byte says which:
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

local function without(record, gone)
  local kept = {}
  for _, part in ipairs(split(record)) do
    if part ~= gone then
      kept[#kept + 1] = part
    end
  end
  return table.concat(kept, '\n'), #kept
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
  redis.call('PUBLISH', root .. ':changes', epoch() .. '\n' .. digits(next_version) .. '\n' .. table.concat(lines, '\n'))
  return next_version
end

-- Users whose presence a script may change, as they were before it: only the net difference is announced.
local touched, was_online = {}, {}

local function touch_user(user)
  if was_online[user] == nil then
    was_online[user] = redis.call('HEXISTS', USERS, user) == 1
    touched[#touched + 1] = user
  end
end

local function presence_lines(lines)
  for _, user in ipairs(touched) do
    local online = redis.call('HEXISTS', USERS, user) == 1
    if online and not was_online[user] then
      lines[#lines + 1] = '+' .. user
    elseif was_online[user] and not online then
      lines[#lines + 1] = '-' .. user
    end
  end
  return lines
end

local function session_record(sid)
  local parts = split(redis.call('HGET', SESSIONS, sid) or '')
  if #parts == 0 then
    return nil
  end
  return { user = parts[1], lease = parts[2], data = parts[3], rooms = { unpack(parts, 4) } }
end

-- Takes a session out of every index but that of usage.
local function forget(sid, record)
  touch_user(record.user)
  redis.call('HDEL', SESSIONS, sid)
  redis.call('ZREM', root .. ':instance:' .. record.lease, sid)
  local sids, count = without(redis.call('HGET', USERS, record.user) or '', sid)
  if count == 0 then
    redis.call('HDEL', USERS, record.user)
  else
    redis.call('HSET', USERS, record.user, sids)
  end
  for _, room in ipairs(record.rooms) do
    if redis.call('HINCRBY', root .. ':room:' .. room, record.user, -1) <= 0 then
      redis.call('HDEL', root .. ':room:' .. room, record.user)
    end
  end
end

-- Takes away what a session uses. A model that nobody else uses ends with it.
local function forget_usage(sid, lines)
  for _, model in ipairs(split(redis.call('HGET', USAGE, sid) or '')) do
    local key = root .. ':model:' .. model
    if redis.call('ZREM', key, sid) == 1 then
      local latest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
      if #latest == 0 then
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
