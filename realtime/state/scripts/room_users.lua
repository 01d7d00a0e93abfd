-- Users with a session in each of the given rooms.
-- ARGV[2...] rooms
-- Returns a list of users per room.
local result = {}
for i = 2, #ARGV do
  result[#result + 1] = redis.call('HKEYS', root .. ':room:' .. ARGV[i])
end
return result
