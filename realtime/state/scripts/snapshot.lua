-- Users online, models announced as in use, and the version they belong to.
-- Returns {epoch, version, users, models}.
return { epoch(), digits(version()), redis.call('HKEYS', USERS), redis.call('ZRANGE', MODELS, 0, -1) }
