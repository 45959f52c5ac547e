-- take_slot: gives the permission to take a member down (R29), once: asked again it is the same one.
-- Refuses, where a master asks, an older mastership (R1) and a decision from another record (R2); and
-- when another one has it, or when that would leave more members down than the budget says.
if not record or record.identity ~= identity then
  return reply('unverified') -- R16
end
if ask.token ~= '' and is_fenced() then
  return reply('fenced') -- R1
end
if ask.token ~= '' and ask.revision ~= record.revision then
  return reply('conflict') -- R2
end
local found, known = member(ask.id)
local held = slot_of(ask.id)
if held and held.by ~= ask.by then
  return refused('slot_taken', found)
elseif held and (not known or ask.token ~= '') then
  return reply('done') -- a rollout goes by what the member says of its turn
elseif not known then
  return reply('not_member', '')
end
local down = {} -- or may be taken down at any moment
for _, text_of in ipairs(redis.call('HVALS', MEMBERS)) do
  local other = cjson.decode(text_of)
  down[other.id] = is_down(other) or nil
end
for _, id in ipairs(slot_ids()) do
  down[id] = true
end
down[ask.id] = nil
local others = 0
for _ in pairs(down) do
  others = others + 1
end
if not held and others >= tonumber(ask.budget) then
  return refused('budget_spent', found)
end
put_slot({
  id = ask.id,
  by = ask.by,
  at_ms = text(now_ms),
  incarnation = known.incarnation,
  away = known.standing == 'away' and '1' or '0',
})
if not held then -- a script asks again: whatever came before proves nothing from here on
  note('slot taken', ask.by, ask.id, record.acting)
end
return reply('done')
