-- write: changes records of one collection: all of them, or none.
-- Refuses who is no member any more and what was made under another acting version (R8), and a record
-- that does not have the stamp that is expected. KEYS: record, members, and the six of _data.
-- ARGV: id, incarnation, generation, raised revision and collection in one text with blanks between,
-- and for each change: key, format or '' to delete, payload, milliseconds to live or 0, expected stamp
-- or ''.
local id, incarnation, generation, raised_revision, collection =
  string.match(ARGV[1], '^(%S+) (%S+) (%S*) (%S+) (%S+)$')
local refused = stale(id, incarnation, generation, raised_revision)
if refused then
  return {'stale', refused}
end
purge()
for i = 2, #ARGV, 5 do
  local expected = ARGV[i + 4]
  if expected ~= '' then
    local raw = redis.call('HGET', DATA, ARGV[i])
    local stamp = '0'
    if raw then
      local _, found, expires = parse(raw)
      stamp = is_over(expires) and '0' or found
    end
    if stamp ~= expected then
      return {'mismatch', (i - 2) / 5, stamp}
    end
  end
end
local answer = {'written'}
for i = 2, #ARGV, 5 do
  local key, format, ttl_ms = ARGV[i], ARGV[i + 1], ARGV[i + 3]
  if format == '' then
    drop(key)
    answer[#answer + 1] = 0
  else
    local stamp = redis.call('HINCRBY', ABOUT, 'stamp', 1)
    if stamp == 1 then
      redis.call('SADD', COLLECTIONS, collection)
    end
    store(key, format, text(stamp), ttl_ms == '0' and '0' or text(now_ms + ttl_ms), ARGV[i + 2])
    answer[#answer + 1] = stamp
  end
end
return answer
