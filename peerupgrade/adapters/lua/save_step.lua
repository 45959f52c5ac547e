-- save_step: a master saves how far one of the application's own steps is.
-- Refuses an older mastership (R1), a store in doubt (R16), a step that is not due (R13), one that has
-- succeeded, and a save that arrives late. KEYS: those of _prelude, and a hash of all steps.
local STEPS = KEYS[6]
if is_fenced() then
  return reply('fenced') -- R1
end
if record.identity ~= identity then
  return reply('unverified') -- R16
end
local raising = record.acting ~= '' and record.floor_key > record.acting_key
local settled = record.acting ~= ''
  and tonumber(record.settled_revision) >= tonumber(record.raised_revision)
local above, upto -- the versions whose steps are due
if ask.phase == 'before' and raising and record.before_key ~= record.floor_key then
  above, upto = record.acting_key, record.floor_key
elseif ask.phase == 'migration' and settled and (record.pause or '') == '' then
  above, upto = record.data_key, record.acting_key
end
local key = ask.phase .. ' ' .. ask.version_key .. ' ' .. ask.name
local found = redis.call('HGET', STEPS, key)
local known = found and cjson.decode(found) or {began_at_ms = text(now_ms), finished = '0', number = '0'}
if not above or not (above < ask.version_key and ask.version_key <= upto) then
  return refused('step_not_due') -- R13
end
if known.finished == '1' then
  return refused('step_finished')
end
if found and is_late(ask, known) then
  return reply('conflict')
end
redis.call('HSET', STEPS, key, cjson.encode({
  phase = ask.phase,
  version = ask.version,
  name = ask.name,
  checkpoint = ask.checkpoint,
  done = ask.done,
  total = ask.total,
  began_at_ms = known.began_at_ms,
  saved_at_ms = text(now_ms),
  finished = ask.finished == '1' and '1' or '0',
  failure = ask.failure,
  number = ask.number,
}))
return reply('done')
