-- commit: writes the record that a master decided on, if nothing moved that it was decided from.
-- Refuses an older mastership (R1), a store whose identity changed (R16), anything that moved (R2),
-- a lower acting version (R3), and a raise against a hold (R22) or while a rollout goes back or bakes.
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
if new.acting_key < record.acting_key then
  return refused('acting_lower') -- R3
end
local rises = new.acting_key ~= record.acting_key
if rises and record.acting ~= '' and record.hold ~= '' then
  return refused('held') -- R22
end
local rollout = record.rollout ~= '' and cjson.decode(record.rollout)
if rises and rollout and (rollout.rollback > 0 or rollout.strategy.bake_ms > 0) then
  return refused('rollout_stays')
end
new.revision = text(record.revision + 1)
new.epoch = record.epoch
new.identity = identity
new.doubt = ask.repair ~= '' and own._quarantine_until_ms or record.doubt
if rises then
  new.raised_revision, new.raised_at_ms = new.revision, text(now_ms)
end
if new.floor_key ~= record.floor_key then
  new.floor_revision, new.floor_at_ms = new.revision, text(now_ms)
end
write(new, ask.step, record.master, ask.inputs)
return reply('done')
