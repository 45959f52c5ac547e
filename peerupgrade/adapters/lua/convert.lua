-- convert: writes converted records, moves the checkpoint, gives the next share.
-- Refuses who is no member any more and what was made under another acting version (R8), and anything
-- while not all have settled, the conversion is paused, or the store is in doubt (R13, R16). A record
-- that is not as it was read stays as it is (R28).
-- KEYS: those of _prelude and of _data. ARGV: from the fourth on, for each record: key, format and stamp
-- with which it was read, payload, and why there is none or ''.
local PARKED_MAX = 1000 -- so many failures are a defect of the codec, not of the records
local refused_as = stale(ask.id, ask.incarnation, ask.generation, ask.raised_revision)
if refused_as then
  return {'stale', refused_as}
end
local settled = tonumber(record.settled_revision) >= tonumber(record.raised_revision)
if not settled or record.acting == '' or record.data_key == record.acting_key
  or (record.pause or '') ~= '' or record.identity ~= identity then
  return {'not_now'} -- R13, R16
end
if redis.call('SISMEMBER', COLLECTIONS, ask.collection) == 0 then
  return {'no_share', 'done', 0}
end
purge()

-- Where it stopped. A cursor is good for one server process only.
local names = {'raised_revision', 'identity', 'began_at_ms', 'cursor', 'older', 'converter',
  'incarnation', 'until_ms', 'converted'}
local at = {}
for i, value in ipairs(redis.call('HMGET', ABOUT, unpack(names))) do
  at[names[i]] = value or ''
end
if at.raised_revision ~= record.raised_revision then
  at = {raised_revision = record.raised_revision, identity = identity, began_at_ms = text(now_ms),
    cursor = '0', older = '', converter = '', incarnation = '0', until_ms = '0', converted = '0'}
elseif at.identity ~= identity then
  at.identity, at.cursor, at.older = identity, '0', ''
end

local function keep()
  set_fields(ABOUT, at)
end

local full, converted = false, 0
for i = 4, #ARGV, 5 do
  local key, why = ARGV[i], ARGV[i + 4]
  local raw = redis.call('HGET', DATA, key)
  if raw then
    local format, stamp, expires = parse(raw)
    if format == ARGV[i + 1] and stamp == ARGV[i + 2] then -- R28
      if why == '' then
        store(key, ask.target, stamp, expires, ARGV[i + 3])
        converted = converted + 1
      elseif redis.call('HLEN', PARKED) < PARKED_MAX then
        redis.call('HSET', PARKED, key,
          cjson.encode({format = format, error = why, at_ms = text(now_ms)}))
      else
        full = full or redis.call('HEXISTS', PARKED, key) == 0
      end
    end
  end
end
at.converted = text(at.converted + converted)
keep()
local mine = at.converter == ask.id and at.incarnation == ask.incarnation
if not mine and now_ms < tonumber(at.until_ms) then
  return {'no_share', 'taken', at.until_ms - now_ms}
end
if full then
  return {'no_share', 'full', 0}
end

-- A whole pass that has met none sets the counters right.
local function recount()
  local real = {}
  for _, text_ in ipairs(redis.call('HVALS', PARKED)) do
    local format = cjson.decode(text_).format
    real[format] = (real[format] or 0) + 1
  end
  for format, number in pairs((older_counts(ask.target))) do
    count(format, (real[format] or 0) - number)
  end
end

if ask.at == at.cursor then -- else another converter has taken over, and goes its own way
  at.cursor = ask['then']
  if at.cursor == '0' then
    if at.older == '' then
      recount()
    end
    at.older = ''
  end
  keep()
end
local _, older = older_counts(ask.target)
if older <= redis.call('HLEN', PARKED) then
  return {'no_share', 'done', 0}
end
local page = redis.call('HSCAN', DATA, at.cursor, 'COUNT', ask.count)
local answer = {'share', at.cursor, page[1]}
for i = 1, #page[2], 2 do
  local key, raw = page[2][i], page[2][i + 1]
  local format, _, expires = parse(raw)
  if format ~= ask.target and not is_over(expires) and redis.call('HEXISTS', PARKED, key) == 0 then
    answer[#answer + 1] = key
    answer[#answer + 1] = raw
  end
end
at.older = #answer > 3 and '1' or at.older
at.converter, at.incarnation = ask.id, ask.incarnation
at.until_ms = text(now_ms + ask.lease_ms)
keep()
return answer
