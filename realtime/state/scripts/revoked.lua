-- Which of these tokens are revoked?
-- ARGV[2...] for each: user, jti or "", issued at in ms or ""
-- Returns 1 or 0 for each.
local result = {}
for i = 2, #ARGV, 3 do
  result[#result + 1] = is_revoked(ARGV[i + 1], ARGV[i], ARGV[i + 2]) and 1 or 0
end
return result
