-- lock_release: gives the lock back and tells the others that it is free.
-- Refuses when it is not held with this token. KEYS: lock, epoch.
-- ARGV: token, channel of the record or '' where there is none. Answers as lock_acquire.
local epoch = redis.call('GET', KEYS[2]) or '0'
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {0, 0, epoch}
end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then
  redis.call('PUBLISH', ARGV[2], cjson.encode({heard = 'freed'}))
end
return {1, 0, epoch}
