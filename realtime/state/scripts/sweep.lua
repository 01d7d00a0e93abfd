-- Ends the models whose time is over. What was touched meanwhile stays: the expiry is checked here.
-- Returns milliseconds until the next model is due, or -1.
local now = now_ms()
local lines = {}
for _, model in ipairs(redis.call('ZRANGEBYSCORE', MODELS, '-inf', digits(now), 'LIMIT', 0, 1000)) do
  redis.call('ZREM', MODELS, model)
  redis.call('DEL', root .. ':model:' .. model)
  lines[#lines + 1] = '/' .. model
end
announce(lines)
local first = redis.call('ZRANGE', MODELS, 0, 0, 'WITHSCORES')
if #first == 0 then
  return -1
end
return math.max(0, tonumber(first[2]) - now)
