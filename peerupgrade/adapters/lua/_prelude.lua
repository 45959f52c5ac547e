-- Prepended to the scripts of the store, after _clock: what is asked, what is there, how it is written
-- and told.
--
-- KEYS: record, members, excluded, history, lock. ARGV: the channels of the record and of the
-- members, the request as JSON. Fields are text; an absent version, hold or the like is ''.
-- Versions are compared by their keys, strings of digits whose order is that of the versions.
-- Names with '_' in the record's hash are the store's own and no part of the record.
local RECORD, MEMBERS, EXCLUDED, HISTORY, LOCK = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local RECORD_CHANNEL, MEMBERS_CHANNEL, ask = ARGV[1], ARGV[2], cjson.decode(ARGV[3])
local STRIDE = 1000
local FROM_HISTORY = 10000 -- about so many entries are kept

-- The server process and its replication history: a restart, a failover changes it.
local replication = redis.call('INFO', 'replication')
if not string.find(replication, 'role:master', 1, true) then
  return redis.error_reply('READONLY this is a replica') -- its answers would be old
end
local identity = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  .. ':' .. string.match(replication, 'master_replid:(%x+)')
local replicas = string.match(replication, 'connected_slaves:(%d+)')

local record, own = {}, {} -- record is nil where there is none
local stored = redis.call('HGETALL', RECORD)
for i = 1, #stored, 2 do
  if string.sub(stored[i], 1, 1) == '_' then
    own[stored[i]] = stored[i + 1]
  else
    record[stored[i]] = stored[i + 1]
  end
end
if not record.generation then
  record = nil
end

-- Every answer shows the record as it is now.
local function reply(status, ...)
  return {status, identity, replicas, redis.call('HGETALL', RECORD), ...}
end

local function refused(rule, other, tombstone)
  return reply('refused', rule, other or '', tombstone or '')
end

local function publish(channel, message)
  redis.call('PUBLISH', channel, cjson.encode(message))
end

local function set_fields(key, changes)
  local flat = {}
  for name, value in pairs(changes) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call('HSET', key, unpack(flat))
end

local function put(changes)
  set_fields(RECORD, changes)
end

-- R30: past every number that the store may have given and forgotten. Its own clock leaves room for
-- one in each millisecond of the cluster's life; should that have jumped back, the stride leaves some.
local function beyond(known)
  local age_ms = now_ms - record.created_at_ms
  return text(age_ms > tonumber(known) and age_ms or known + STRIDE)
end

-- One entry of the history; before is the acting version that was.
local function note(kind, by, inputs, before)
  redis.call('XADD', HISTORY, 'MAXLEN', '~', FROM_HISTORY, '*',
    'at_ms', text(now_ms), 'kind', kind, 'by', by, 'epoch', record.epoch,
    'revision', record.revision, 'before', before, 'after', record.acting, 'inputs', inputs)
end

-- Put the record, remember it in the history, tell everyone.
local function write(changes, kind, by, inputs)
  local before = record and record.acting or ''
  record = record or {}
  for name, value in pairs(changes) do
    record[name] = value
  end
  put(changes)
  note(kind, by, inputs, before)
  publish(RECORD_CHANNEL, {heard = 'record', record = record})
end

-- The text of a member as it is stored, and its fields; nil where there is none.
local function member(id)
  local found = redis.call('HGET', MEMBERS, id)
  if found then
    return found, cjson.decode(found)
  end
end

-- True for a request of the very start that is registered, overtaken by a newer one.
local function is_late(request, known)
  return tonumber(request.number) <= tonumber(known.number)
end

local function tombstone(id)
  return redis.call('HGET', EXCLUDED, id) or ''
end

local function member_changed(id, fields)
  local revision = redis.call('HINCRBY', RECORD, '_members_revision', 1)
  publish(MEMBERS_CHANNEL,
    {heard = 'member', id = id, member = fields, members_revision = text(revision)})
end

local function remove_member(id)
  redis.call('HDEL', MEMBERS, id)
  member_changed(id, '')
end

-- It has not confirmed that it operates as the record says.
local function is_down(fields)
  return fields.standing ~= 'serving'
    or tonumber(fields.operating_revision) < tonumber(record.raised_revision)
end

-- R29: slots, the permissions to take members down, are fields of their own beside the record.
local SLOT = '_slot:'

local function slot_ids()
  local ids = {}
  for name in pairs(own) do
    if string.sub(name, 1, #SLOT) == SLOT then
      ids[#ids + 1] = string.sub(name, #SLOT + 1)
    end
  end
  return ids
end

local function slot_of(id)
  local found = own[SLOT .. id]
  return found and cjson.decode(found)
end

local function put_slot(slot)
  put({[SLOT .. slot.id] = cjson.encode(slot)})
end

-- R29: its slot remembers that it was away.
local function put_member(fields)
  redis.call('HSET', MEMBERS, fields.id, cjson.encode(fields))
  member_changed(fields.id, fields)
  local slot = slot_of(fields.id)
  if slot and fields.standing == 'away' then
    slot.away = '1'
    put_slot(slot)
  end
end

local function drop_slot(id)
  redis.call('HDEL', RECORD, SLOT .. id)
end

-- Nothing is known of them any more.
local function remove_all_members()
  redis.call('DEL', MEMBERS)
  for _, id in ipairs(slot_ids()) do
    drop_slot(id)
  end
end

-- When a lease that is renewed now ends; '0' without one.
local function lease_until(lease_ms)
  return lease_ms == '0' and '0' or text(now_ms + lease_ms)
end

local function health_state(health)
  return health and health ~= '' and cjson.decode(health).state or ''
end

-- Since when the state of a member's health is what this says; its words may change.
local function health_since(known, health)
  local same = health_state(known.health) == health_state(health)
  return same and (known.health_since_ms or '0') or text(now_ms)
end

-- R1: a newer mastership has begun than the one that asks.
local function is_fenced()
  return not record or ask.epoch ~= record.epoch or ask.token ~= own._master_token
end

-- R16: true until the quarantine of this very server process has begun and ended.
local function quarantined()
  return own._suspect ~= identity or now_ms < tonumber(own._quarantine_until_ms)
end
