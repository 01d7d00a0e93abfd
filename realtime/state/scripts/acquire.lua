-- Takes a lease. A fleet of another schema that still lives is never joined; the leases of one that does not are
-- ended in the same step, so that none of its instances can wake and carry on beside this one.
-- ARGV[2] lease  ARGV[3] schema  ARGV[4] time to live, ms  ARGV[5] epoch to use if there is none
-- Returns {"ok", epoch, version, now} or {"schema", the schema in use}.
local now = now_ms()
local found = redis.call('GET', root .. ':schema')
if found and found ~= ARGV[3] and redis.call('ZCOUNT', LEASES, '(' .. digits(now), '+inf') > 0 then
  return { 'schema', found }
end
redis.call('SET', root .. ':schema', ARGV[3])
redis.call('HSETNX', META, 'epoch', ARGV[5])
if found and found ~= ARGV[3] then
  local lines = {}
  for _, lease in ipairs(redis.call('ZRANGE', LEASES, 0, -1)) do
    redis.call('ZADD', REAPING, digits(now), lease)
    lines[#lines + 1] = '~' .. lease
  end
  redis.call('DEL', LEASES)
  announce(lines)
end
redis.call('ZADD', LEASES, digits(now + tonumber(ARGV[4])), ARGV[2])
return { 'ok', epoch(), digits(version()), digits(now) }
