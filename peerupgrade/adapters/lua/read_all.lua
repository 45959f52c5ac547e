-- read_all: the record, the members, the exclusions and the store's clock. Refuses nothing.
return reply('all', redis.call('HGETALL', MEMBERS), redis.call('HGETALL', EXCLUDED), text(now_ms))
