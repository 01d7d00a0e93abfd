-- Sessions of one user, oldest first.
-- ARGV[2] user
-- Returns {sid, record, sid, record, ...}.
local result = {}
for _, sid in ipairs(split(redis.call('HGET', USERS, ARGV[2]) or '')) do
  result[#result + 1] = sid
  result[#result + 1] = redis.call('HGET', SESSIONS, sid) or ''
end
return result
