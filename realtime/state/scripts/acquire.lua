-- Takes a lease. A fleet of another schema that still lives is never joined.
-- ARGV[2] lease  ARGV[3] schema  ARGV[4] time to live, ms  ARGV[5] epoch to use if there is none
-- Returns {"ok", epoch, version, now} or {"schema", the schema in use}.
local now = now_ms()
local found = redis.call('GET', root .. ':schema')
if found and found ~= ARGV[3] and redis.call('ZCOUNT', LEASES, '(' .. digits(now), '+inf') > 0 then
  return { 'schema', found }
end
redis.call('SET', root .. ':schema', ARGV[3])
redis.call('HSETNX', META, 'epoch', ARGV[5])
redis.call('ZADD', LEASES, digits(now + tonumber(ARGV[4])), ARGV[2])
return { 'ok', epoch(), digits(version()), digits(now) }
