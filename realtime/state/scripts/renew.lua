-- Renews a lease that was not reaped, even one past its expiry: nothing was taken from it yet.
-- ARGV[2] lease  ARGV[3] time to live, ms
-- Returns {"ok" or "lost", epoch, version, sessions of the lease, now, the expiry that stood until now or 0,
-- how much there is to reap}.
local now = now_ms()
local held = 'lost'
local stood = redis.call('ZSCORE', LEASES, ARGV[2])
if stood then
  redis.call('ZADD', LEASES, digits(now + tonumber(ARGV[3])), ARGV[2])
  held = 'ok'
end
local reapable = redis.call('ZCARD', REAPING) + redis.call('ZCOUNT', LEASES, '-inf', digits(now))
  + redis.call('ZCOUNT', TOKENS, '-inf', digits(now))
local sessions = redis.call('ZCARD', root .. ':instance:' .. ARGV[2])
return { held, epoch(), digits(version()), sessions, digits(now), digits(tonumber(stood or 0)), reapable }
