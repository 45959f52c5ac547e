-- resolve: an operator's word about parked records: retry, skip or delete.
-- Refuses while the store is in doubt (R16). KEYS: those of _prelude and of _data.
if not record or record.identity ~= identity then
  return reply('unverified') -- R16
end
local keys = {}
for _, key in ipairs(redis.call('HKEYS', PARKED)) do
  if ask.key == '' or ask.key == key then
    keys[#keys + 1] = key
  end
end
for _, key in ipairs(keys) do
  if ask.verdict == 'retry' then
    redis.call('HDEL', PARKED, key)
  else
    local raw = drop(key)
    if ask.verdict == 'skip' and raw then
      redis.call('HSET', SKIPPED, key, raw)
    end
  end
end
if #keys > 0 then
  local what = ask.key ~= '' and ask.key or #keys .. ' records'
  note('parked: ' .. ask.verdict, ask.by, ask.collection .. '/' .. what, record.acting)
end
return reply('resolved', text(#keys))
