-- Revokes one token, or all of a user's issued up to now, and tells everyone.
-- ARGV[2] "t" for a token, "u" for a user  ARGV[3] jti or user  ARGV[4] for a token: its own end, ms
if ARGV[2] == 't' then
  redis.call('ZADD', TOKENS, ARGV[4], ARGV[3])
else
  redis.call('ZADD', REVOKED_USERS, digits(now_ms()), ARGV[3])
end
announce({ ARGV[2] .. ARGV[3] })
return 'ok'
