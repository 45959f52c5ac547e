-- commit: writes the record that a master decided on, if nothing moved that it was decided from.
-- Refuses an older mastership (R1), a store whose identity changed (R16), anything that moved (R2),
-- a lower acting version outside a downgrade (R3), a downgrade other than was asked for or while records
-- are in formats that it could not read, and a raise against a hold (R22) or while a rollout, or a
-- member of it, goes back, or it bakes.
-- KEYS: those of _prelude, and the set of the collections; their keys lie in the same slot.
local new = ask.record
if not record or record.generation ~= new.generation then
  return reply('unverified')
end
if is_fenced() then
  return reply('fenced') -- R1
end
if ask.repair ~= '' then
  if quarantined() then
    return reply('unverified') -- R16
  end
elseif record.identity ~= identity then
  return reply('unverified') -- R16
end
if ask.revision ~= record.revision
  or ask.members_revision ~= (own._members_revision or '0') then
  return reply('conflict') -- R2
end

local function asked_in(of)
  return (of.downgrade or '') ~= '' and cjson.decode(of.downgrade) or {}
end

-- A downgrade goes where it was asked for, once, from where nothing newer can be written.
local asked, times = asked_in(record), tonumber(record.downgrades or '0')
local goes_back = tonumber(new.downgrades) ~= times
local function as_asked()
  return asked.barred == 1 and new.downgrade == '' and tonumber(new.downgrades) == times + 1
    and new.acting == asked.version and new.acting_key < record.acting_key
end

local function has_others_than(formats)
  local allowed, prefix = {}, string.match(KEYS[6], '^(.*:)collections$')
  for _, format in ipairs(formats) do
    allowed['count ' .. format] = true
  end
  for _, name in ipairs(redis.call('SMEMBERS', KEYS[6])) do
    for _, field in ipairs(redis.call('HKEYS', prefix .. 'about:' .. name)) do
      if string.sub(field, 1, 6) == 'count ' and not allowed[field] then
        return true
      end
    end
  end
  return false
end

if tonumber(new.downgrades) < times or (not goes_back and new.acting_key < record.acting_key) then
  return refused('acting_lower') -- R3
end
if goes_back and not as_asked() then
  return refused('no_downgrade')
end
local moves = new.acting_key ~= record.acting_key
if moves and not goes_back and record.acting ~= '' and record.hold ~= '' then
  return refused('held') -- R22
end
local function stays()
  local rollout = record.rollout ~= '' and cjson.decode(record.rollout)
  return rollout
    and (rollout.rollback > 0 or #rollout.returning > 0 or rollout.strategy.bake_ms > 0)
end
if moves and not goes_back and stays() then
  return refused('rollout_stays')
end
local begins = goes_back and asked or asked_in(new)
if begins.barred == 1 and has_others_than(begins.formats) then
  return refused('newer_records')
end
new.revision = text(record.revision + 1)
new.epoch = record.epoch
new.identity = identity
new.doubt = ask.repair ~= '' and own._quarantine_until_ms or record.doubt
if moves then
  new.raised_revision, new.raised_at_ms = new.revision, text(now_ms)
end
if new.floor_key ~= record.floor_key then
  new.floor_revision, new.floor_at_ms = new.revision, text(now_ms)
end
write(new, ask.step, record.master, ask.inputs)
return reply('done')
