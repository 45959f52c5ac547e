-- admit: registers a node, or registers it anew, and answers with the record: one step (R4).
-- Refuses another generation, a name that is another's, a request that was sent long ago, an excluded
-- start of the node, and an installed version below the acting one. What only keeps a member from
-- operating now refuses a newcomer and makes a registered member STANDBY (R25).
if not record or record.identity ~= identity then
  return reply('unverified') -- R16
end
if ask.generation ~= '' and ask.generation ~= record.generation then
  return refused('other_generation')
end
local found, known = member(ask.id)
local proven = known and known.token == ask.token
for _, earlier in ipairs(cjson.decode(ask.earlier)) do
  proven = proven or (known and known.token == earlier)
end
if known and not proven then
  return refused('name_taken', found)
end
if known and known.token == ask.token and is_late(ask, known) then
  return reply('conflict')
end
local stone = tombstone(ask.id)
if stone ~= '' and cjson.decode(stone).token == ask.token then
  return refused('excluded', nil, stone)
end
if ask.installed_key < record.acting_key then
  if known and known.standing == 'standby' then
    remove_member(ask.id) -- it stood by while nobody knew better
  end
  return refused('installed_below_acting')
end

local function standby_rule()
  if record.acting == '' then
    return 'forming'
  elseif ask.installed_key < record.floor_key then
    return 'installed_below_floor'
  elseif ask.lowest_key > record.acting_key then
    return 'lowest_above_acting'
  elseif ask.lowest_key > record.data_key then
    return 'lowest_above_data' -- R14
  elseif ask.installed_key < (record.downgraded_from_key or '') then
    return 'downgrade_unconfirmed' -- R13
  end
  return ''
end

local rule = standby_rule()
local waits = rule == 'forming' or rule == 'downgrade_unconfirmed' -- they end by themselves
if rule ~= '' and not waits and not known then
  return refused(rule)
end

local again = known and known.token == ask.token
local incarnation = again and known.incarnation
if not again then
  incarnation = text(math.max(tonumber(own._incarnations or '0'), tonumber(ask.incarnation)) + 1)
  put({_incarnations = incarnation})
end
local standing = rule == '' and 'serving' or 'standby'
local keeps = again and standing == 'serving' and known.standing == 'serving'
put_member({
  id = ask.id,
  incarnation = incarnation,
  token = ask.token,
  installed = ask.installed,
  installed_key = ask.installed_key,
  lowest = ask.lowest,
  lowest_key = ask.lowest_key,
  standing = standing,
  seen = record.revision,
  operating = keeps and known.operating or '',
  operating_key = keeps and known.operating_key or '',
  operating_revision = keeps and known.operating_revision or '0',
  failure = keeps and known.failure or '',
  work = known and known.work or '',
  health = keeps and known.health or '',
  number = ask.number,
  lease_ms = ask.lease_ms,
  lease_until_ms = lease_until(ask.lease_ms),
  address = ask.address,
  gossip = ask.gossip,
  zone = ask.zone,
  labels = ask.labels,
  collections = ask.collections,
  steps = ask.steps,
  attached = '0',
  joined_at_ms = again and known.joined_at_ms or text(now_ms),
  changed_at_ms = text(now_ms),
  health_since_ms = keeps and (known.health_since_ms or '0') or text(now_ms),
})
redis.call('HDEL', EXCLUDED, ask.id) -- a later incarnation has taken the name
return reply('admitted', incarnation, standing, rule)
