-- return_slot: gives a slot back (R29).
-- Refuses an older mastership, where a master asks (R1), while the member is down, and until it has
-- been: what it said before proves nothing. That it was not taken down after all, or is gone for good,
-- is the word of whoever asks.
if not record or record.identity ~= identity then
  return reply('unverified') -- R16
end
if ask.token ~= '' and is_fenced() then
  return reply('fenced') -- R1
end
local found, known = member(ask.id)
local slot = slot_of(ask.id)
if not slot then
  return refused('no_slot')
end
local may = ask.outcome == 'gone'
if known then
  local was_down = slot.away == '1' or known.incarnation ~= slot.incarnation
  may = not is_down(known) and (was_down or ask.outcome == 'unused')
end
if not may then
  return refused('slot_in_use', found)
end
drop_slot(ask.id)
note('slot returned', ask.by, ask.id .. ': ' .. ask.outcome, record.acting)
return reply('done')
