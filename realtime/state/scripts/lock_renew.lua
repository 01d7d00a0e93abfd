-- Prolongs a lock that its owner still holds.
-- ARGV[2] name  ARGV[3] owner  ARGV[4] time to live, ms
-- Returns 1, or 0 if it expired or changed hands.
local key, now = root .. ':lock:' .. ARGV[2], now_ms()
local held = redis.call('HMGET', key, 'owner', 'expires')
if held[1] ~= ARGV[3] or tonumber(held[2] or '0') <= now then
  return 0
end
redis.call('HSET', key, 'expires', digits(now + tonumber(ARGV[4])))
return 1
