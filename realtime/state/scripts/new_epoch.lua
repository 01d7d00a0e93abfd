-- Begins a new epoch after versions went back, once for all who noticed, and tells everyone.
-- ARGV[2] the epoch that was seen to go back  ARGV[3] the new one
-- Returns the epoch in force.
if epoch() == ARGV[2] then
  redis.call('HSET', META, 'epoch', ARGV[3])
  announce({ '#' })
end
return epoch()
