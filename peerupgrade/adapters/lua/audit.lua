-- audit: a master looks whether records are left in other formats than the target.
-- Refuses an older mastership (R1) and a store in doubt (R16). KEYS: those of _prelude and of _data.
if not record or ask.epoch ~= record.epoch or ask.token ~= own._master_token then
  return reply('fenced') -- R1
end
if record.identity ~= identity then
  return reply('unverified') -- R16
end
purge()
local page = redis.call('HSCAN', DATA, ask.cursor, 'COUNT', ask.count)
local found, sum = {}, 0
for i = 1, #page[2], 2 do
  local format, _, expires = parse(page[2][i + 1])
  if format ~= ask.target and not is_over(expires) then
    found[format] = (found[format] or 0) + 1
    sum = sum + 1
  end
end
for format, number in pairs(found) do
  if redis.call('HEXISTS', ABOUT, 'count ' .. format) == 0 then
    count(format, number)
  end
end
return reply('audited', page[1], text(sum))
