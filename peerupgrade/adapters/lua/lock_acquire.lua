-- lock_acquire: sets the lock if it is free, or is this token's already.
-- Refuses while somebody else's lives, and says for how long. KEYS: lock, epoch.
-- ARGV: token, milliseconds. Answers: granted, the other's remaining milliseconds, highest epoch.
local holder = redis.call('GET', KEYS[1])
local epoch = redis.call('GET', KEYS[2]) or '0'
if holder and holder ~= ARGV[1] then
  return {0, redis.call('PTTL', KEYS[1]), epoch}
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, 0, epoch}
