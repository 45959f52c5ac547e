-- write: changes records of one collection: all of them, or none.
-- Refuses who is no member any more and what was made under another acting version (R8), what a version
-- that a downgrade is about to go to could not read, and a record that does not have the stamp that is expected. KEYS: record, members, and the six of _data.
-- ARGV: id, incarnation, generation, raised revision and collection in one text with blanks between,
-- and for each change: key, format or '' to delete, payload, milliseconds to live or 0, expected stamp
-- or ''.
local id, incarnation, generation, raised_revision, collection =
  string.match(ARGV[1], '^(%S+) (%S+) (%S*) (%S+) (%S+)$')
local refused = stale(id, incarnation, generation, raised_revision)
if refused then
  return {'stale', refused}
end

-- A downgrade has begun, and the version that it goes to could not read what is written.
local function is_barred()
  local asked = redis.call('HGET', KEYS[1], 'downgrade')
  asked = asked and asked ~= '' and cjson.decode(asked)
  if not asked or asked.barred ~= 1 then
    return false
  end
  local allowed = {[''] = true} -- to delete
  for _, format in ipairs(asked.formats) do
    allowed[format] = true
  end
  for i = 3, #ARGV, 5 do
    if not allowed[ARGV[i]] then
      return true
    end
  end
  return false
end

if is_barred() then
  return {'stale', 'acting'}
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
