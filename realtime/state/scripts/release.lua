-- Gives up a lease: its sessions may be reaped at once.
-- ARGV[2] lease
if redis.call('ZREM', LEASES, ARGV[2]) == 1 then
  redis.call('ZADD', REAPING, digits(now_ms()), ARGV[2])
  announce({ '~' .. ARGV[2] })
end
return 'ok'
