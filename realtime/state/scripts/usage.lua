-- Who uses what, until when.
-- Returns a list of {model, sid, until, sid, until, ...}.
local now, result = digits(now_ms()), {}
for _, model in ipairs(redis.call('ZRANGEBYSCORE', MODELS, '(' .. now, '+inf')) do
  local row = redis.call('ZRANGEBYSCORE', root .. ':model:' .. model, '(' .. now, '+inf', 'WITHSCORES')
  table.insert(row, 1, model)
  result[#result + 1] = row
end
return result
