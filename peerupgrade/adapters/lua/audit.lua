-- audit: a master looks whether records are left in other formats than the target, a page at a time;
-- the next one goes on from there, as long as it is about the same raise and the same server process.
-- Refuses an older mastership (R1) and a store in doubt (R16). KEYS: those of _prelude and of _data.
if is_fenced() then
  return reply('fenced') -- R1
end
if record.identity ~= identity then
  return reply('unverified') -- R16
end
purge()
local about = record.raised_revision .. ' ' .. identity .. ' '
local at = redis.call('HGET', ABOUT, 'audit') or ''
local cursor = string.sub(at, 1, #about) == about and string.sub(at, #about + 1) or '0'
if cursor == 'ended' then
  return reply('audited', '1', '0')
end
local page = redis.call('HSCAN', DATA, cursor, 'COUNT', ask.count)
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
if tonumber(record.settled_revision) < tonumber(record.raised_revision) or record.acting == '' then
  return reply('audited', '', text(sum)) -- R13: behind it an older record could still appear
end
cursor = sum > 0 and '0' or page[1] == '0' and 'ended' or page[1]
if redis.call('EXISTS', ABOUT) == 1 then
  redis.call('HSET', ABOUT, 'audit', about .. cursor)
end
return reply('audited', cursor == 'ended' and '1' or '', text(sum))
