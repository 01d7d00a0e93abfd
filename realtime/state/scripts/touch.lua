-- Says that a session uses models until a time from now; a use that lasts longer already is not cut short.
-- ARGV[2] sid  ARGV[3] time to live, ms  ARGV[4] most models of one session (0: no bound)  ARGV[5...] models
-- Returns "ok"; "unknown" if there is no such session, "limit" if it would use too many: then nothing was changed.
local sid, cap = ARGV[2], tonumber(ARGV[4])
if redis.call('HEXISTS', SESSIONS, sid) == 0 then
  return 'unknown'
end
local now = now_ms()
local till = digits(now + tonumber(ARGV[3]))

local used, uses, fresh = split(redis.call('HGET', USAGE, sid) or ''), {}, 0
for _, model in ipairs(used) do
  uses[model] = true
end
for i = 5, #ARGV do
  if not uses[ARGV[i]] then
    uses[ARGV[i]] = true
    used[#used + 1] = ARGV[i]
    fresh = fresh + 1
  end
end
if cap > 0 and #used > cap and fresh > 0 then
  -- A session's list keeps models that ended long ago until room is needed.
  local named, kept, ended = {}, {}, {}
  for i = 5, #ARGV do
    named[ARGV[i]] = true
  end
  for _, model in ipairs(used) do
    local score = redis.call('ZSCORE', root .. ':model:' .. model, sid)
    if named[model] or (score and tonumber(score) > now) then
      kept[#kept + 1] = model
    else
      ended[#ended + 1] = model
    end
  end
  used = kept
  if #used > cap then
    return 'limit'
  end
  for _, model in ipairs(ended) do
    redis.call('ZREM', root .. ':model:' .. model, sid)
  end
end
if fresh > 0 then
  redis.call('HSET', USAGE, sid, table.concat(used, '\n'))
end

local lines = {}
for i = 5, #ARGV do
  local model = ARGV[i]
  redis.call('ZADD', root .. ':model:' .. model, 'GT', till, sid)
  if not redis.call('ZSCORE', MODELS, model) then
    lines[#lines + 1] = '*' .. model
  end
  redis.call('ZADD', MODELS, 'GT', till, model)
end
announce(lines)
return 'ok'
