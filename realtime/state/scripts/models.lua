-- Models in use at this moment, to the millisecond.
return redis.call('ZRANGEBYSCORE', MODELS, '(' .. digits(now_ms()), '+inf')
