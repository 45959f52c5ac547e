-- lock_extend: prolongs the lock and remembers the epoch (R30); the store also tells everyone.
-- Refuses when the lock is gone or another's: it is never made anew. KEYS: lock, epoch, record.
-- ARGV: token, milliseconds, epoch, channel of the record or '' where there is none.
-- Answers as lock_acquire.
local epoch = redis.call('GET', KEYS[2]) or '0'
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return {0, 0, epoch}
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if tonumber(ARGV[3]) > tonumber(epoch) then
  epoch = ARGV[3]
  redis.call('SET', KEYS[2], epoch)
end
if ARGV[4] ~= '' then
  local known = redis.call('HMGET', KEYS[3], 'epoch', 'revision', '_members_revision')
  redis.call('PUBLISH', ARGV[4], cjson.encode({
    heard = 'beat',
    epoch = ARGV[3],
    record_epoch = known[1] or '0',
    revision = known[2] or '0',
    members_revision = known[3] or '0',
    ttl_ms = ARGV[2],
  }))
end
return {1, 0, epoch}
