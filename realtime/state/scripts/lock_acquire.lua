-- Takes a lock that is free or expired, or takes it again. The fencing token grows with every change of hands.
-- ARGV[2] name  ARGV[3] owner  ARGV[4] time to live, ms
-- Returns the fencing token, or 0 if somebody else holds the lock.
local key, now = root .. ':lock:' .. ARGV[2], now_ms()
local held = redis.call('HMGET', key, 'owner', 'expires')
local alive = held[2] and tonumber(held[2]) > now
if alive and held[1] ~= ARGV[3] then
  return 0
end
if not alive then
  redis.call('HINCRBY', key, 'fence', 1)
end
redis.call('HSET', key, 'owner', ARGV[3], 'expires', digits(now + tonumber(ARGV[4])))
return tonumber(redis.call('HGET', key, 'fence'))
