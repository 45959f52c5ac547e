-- read_all: the record, the members, the exclusions, the store's clock, and what is known of each
-- collection without its records, and the steps. Refuses nothing. KEYS: those of _prelude, the set of
-- the collections and the hash of the steps; the keys of a collection end in its name, and lie in the
-- same slot.
local PREFIX = string.match(KEYS[6], '^(.*:)collections$')
local collections = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[6])) do
  collections[#collections + 1] = name
  collections[#collections + 1] = redis.call('HGETALL', PREFIX .. 'about:' .. name)
  collections[#collections + 1] = redis.call('HGETALL', PREFIX .. 'parked:' .. name)
  collections[#collections + 1] = text(redis.call('HLEN', PREFIX .. 'skipped:' .. name))
end
return reply('all', redis.call('HGETALL', MEMBERS), redis.call('HGETALL', EXCLUDED), text(now_ms),
  collections, redis.call('HGETALL', KEYS[7]))
