-- Prepended to the scripts about shared data, after _clock: how records lie in the store.
--
-- The last six KEYS are: DATA, a hash key -> record; ABOUT, a hash with the last stamp, the number of
-- records for each format and the checkpoint of the conversion; EXPIRY, a sorted set of the keys that
-- expire, by time; PARKED, a hash key -> why it could not be converted; SKIPPED, a hash of records that
-- were set aside; COLLECTIONS, a set of the names of all collections.
-- A record is a line of text (pu1, format, stamp, when it expires or 0), and behind it the payload.
local DATA, ABOUT, EXPIRY, PARKED, SKIPPED, COLLECTIONS = unpack(KEYS, #KEYS - 5)
local PURGED_MAX = 20 -- expired records that one request removes

-- Format, stamp, time of expiry as text; the place where the payload begins.
local function parse(raw)
  return string.match(raw, '^pu1 (%S+) (%d+) (%d+)\n()')
end

local function made(format, stamp, expires, payload)
  return 'pu1 ' .. format .. ' ' .. stamp .. ' ' .. expires .. '\n' .. payload
end

local function is_over(expires)
  return expires ~= '0' and tonumber(expires) <= now_ms
end

local function count(format, by)
  if redis.call('HINCRBY', ABOUT, 'count ' .. format, by) <= 0 then
    redis.call('HDEL', ABOUT, 'count ' .. format)
  end
end

-- The numbers of records, by format, without those of the target.
local function older_counts(target)
  local found, sum, about = {}, 0, redis.call('HGETALL', ABOUT)
  for i = 1, #about, 2 do
    local format = string.match(about[i], '^count (%S+)$')
    if format and format ~= target then
      found[format] = tonumber(about[i + 1])
      sum = sum + found[format]
    end
  end
  return found, sum
end

-- Removes a record; nothing is left of it, neither counted nor parked.
local function drop(key)
  local raw = redis.call('HGET', DATA, key)
  if raw then
    local format, _, expires = parse(raw)
    redis.call('HDEL', DATA, key)
    redis.call('HDEL', PARKED, key)
    if expires ~= '0' then
      redis.call('ZREM', EXPIRY, key)
    end
    count(format, -1)
  end
  return raw
end

-- Puts a record, in whatever format one was there before.
local function store(key, format, stamp, expires, payload)
  local raw = redis.call('HGET', DATA, key)
  local before, expired_before = false, '0'
  if raw then
    local _
    before, _, expired_before = parse(raw)
    redis.call('HDEL', PARKED, key)
  end
  redis.call('HSET', DATA, key, made(format, stamp, expires, payload))
  if expires ~= '0' then
    redis.call('ZADD', EXPIRY, expires, key)
  elseif expired_before ~= '0' then
    redis.call('ZREM', EXPIRY, key)
  end
  if before ~= format then
    if before then
      count(before, -1)
    end
    count(format, 1)
  end
end

-- Removes some of the records that have expired, the oldest first.
local function purge()
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', EXPIRY, 1, now_ms, 'LIMIT', 0, PURGED_MAX)) do
    drop(key)
  end
end

-- R8: why a write is refused: its writer is no member any more, or it was made under another acting
-- version; nil if it is not.
local function stale(id, incarnation, generation, raised_revision)
  local known = redis.call('HMGET', KEYS[1], 'generation', 'raised_revision')
  local found = redis.call('HGET', KEYS[2], id)
  -- Decoding all of the member takes longer than the rest; within a text of it quotes are escaped.
  local named = '"incarnation":"' .. incarnation .. '"'
  if known[1] ~= generation or not found or not string.find(found, named, 1, true) then
    return 'member'
  end
  if known[2] ~= raised_revision then
    return 'acting'
  end
end

