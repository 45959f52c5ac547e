-- attach: a node brings its memory to a store that may have lost writes (R17).
-- Where the store has no record of this cluster, the memory becomes the record; where it knows less
-- than the node, it is brought forward, never back. Either way it is in doubt from here (R16).
-- A node that remembers nothing may stand by.
-- Refuses another generation, a memory of a raise that would leave a member behind, a request that was
-- sent long ago, a name that is another's, and an excluded start of the node (R9).
local joining = ask.member
local memory = ask.memory ~= '' and ask.memory
local found, known = member(joining.id)
local stone = tombstone(joining.id)
local again = known and known.token == joining.token

local function downgrades(of)
  return tonumber(of.downgrades or '0')
end

local function ahead()
  if tonumber(memory.revision) > tonumber(record.revision) then
    return true
  elseif downgrades(memory) ~= downgrades(record) then
    return downgrades(memory) > downgrades(record)
  end
  return memory.acting_key > record.acting_key
end

local function left_behind()
  for _, other in ipairs(redis.call('HVALS', MEMBERS)) do
    if cjson.decode(other).installed_key < memory.acting_key then
      return true
    end
  end
  return false
end

-- Somebody began a new cluster on the wiped store, and it does not act yet.
local function unformed()
  return record.generation ~= memory.generation and record.acting == ''
end

-- R16: from here until a master has verified the store, nothing joins and nothing rises.
local function begin_quarantine()
  record.identity = ''
  record.epoch = beyond(record.epoch)
  put(record)
  own._incarnations = beyond(own._incarnations or '0')
  -- The moment also names this doubt, so it is never the same twice.
  own._quarantine_until_ms =
    text(math.max((own._quarantine_until_ms or 0) + 1, now_ms + ask.quarantine_ms))
  put({
    _incarnations = own._incarnations,
    _suspect = identity,
    _quarantine_until_ms = own._quarantine_until_ms,
    _doubted_at_ms = text(now_ms),
  })
  publish(RECORD_CHANNEL, {heard = 'doubt'})
end

local function bring_back()
  remove_all_members()
  record = memory
  record.master = ''
  begin_quarantine()
  put({_master_token = ''})
  note('brought back', joining.id, 'the store had no record of this cluster', '')
end

-- The newer one of a version that both know.
local function newer(name)
  local key = name .. '_key'
  local from = memory[key] >= record[key] and memory or record
  return from[name], from[key]
end

-- Begin the quarantine of this server process, once.
local function doubt()
  if own._suspect ~= identity or record.identity == identity then
    begin_quarantine()
    note('doubted', joining.id, "the store's identity changed", record.acting)
  end
end

-- Take in what the node remembers, forward only (R17).
local function merge()
  if not ahead() and tonumber(memory.epoch) <= tonumber(record.epoch) then
    return
  end
  local merged = {}
  local newest = tonumber(memory.revision) > tonumber(record.revision) and memory or record
  local as_often = downgrades(memory) == downgrades(record)
  if not as_often then
    newest = downgrades(memory) > downgrades(record) and memory or record
  end
  for name, value in pairs(newest) do
    merged[name] = value
  end
  local last = math.max(tonumber(memory.revision), tonumber(record.revision))
  if as_often then -- else what the other one had is over
    merged.acting, merged.acting_key = newer('acting')
    merged.floor, merged.floor_key = newer('floor')
  elseif tonumber(newest.revision) < last then -- everybody confirms anew: it may follow the other one
    merged.revision = text(last + 1)
    merged.raised_revision = merged.revision
    local other = newest == memory and record or memory
    if other.acting_key > (merged.downgraded_from_key or '') then
      merged.downgraded_from, merged.downgraded_from_key = other.acting, other.acting_key
    end
  end
  -- What the store lost of the shared data it lost together with the record.
  local data = record.data ~= '' and record or memory
  if data.data_key > merged.acting_key and merged.acting ~= '' then
    data = {data = merged.acting, data_key = merged.acting_key}
  end
  merged.data, merged.data_key = data.data, data.data_key
  merged.epoch = text(math.max(tonumber(memory.epoch), tonumber(record.epoch)))
  merged.master = record.master
  merged.identity = ''
  local before = record.acting
  record = merged
  put(record)
  note('brought forward', joining.id, 'remembers ' .. memory.revision, before)
end

-- The very process that was excluded, not a later start.
local function is_excluded()
  if stone == '' then
    return false
  end
  local excluded = cjson.decode(stone)
  return joining.token == excluded.token or (joining.operating ~= ''
    and tonumber(joining.incarnation) <= tonumber(excluded.incarnation))
end

if memory and (not record or unformed()) then
  bring_back()
  again = false
elseif not record then
  return reply('unverified')
elseif memory and record.generation ~= memory.generation then
  return refused('other_generation')
else
  if record.identity == identity then
    if not memory or not ahead() then
      return reply('attached', joining.incarnation) -- nothing was lost
    elseif left_behind() then
      return refused('left_behind')
    end
  end
  doubt()
  if again and is_late(joining, known) then
    return reply('conflict')
  elseif not again and known and tonumber(known.incarnation) > tonumber(joining.incarnation) then
    return refused('name_taken', found)
  elseif is_excluded() then
    return refused('excluded', nil, stone)
  elseif memory then
    merge()
  end
end

-- A node that operates keeps its incarnation; one that has just started gets a new one.
local incarnations = math.max(tonumber(own._incarnations or '0'), tonumber(joining.incarnation))
if again then
  joining.incarnation = known.incarnation
elseif joining.standing == 'standby' then
  incarnations = incarnations + 1
  joining.incarnation = text(incarnations)
end
put({_incarnations = text(incarnations)})
joining.attached = own._quarantine_until_ms
joining.lease_until_ms = lease_until(joining.lease_ms)
joining.joined_at_ms = again and known.joined_at_ms or text(now_ms)
joining.changed_at_ms = text(now_ms)
joining.health_since_ms = again and health_since(known, joining.health) or text(now_ms)
put_member(joining)
return reply('attached', joining.incarnation)
