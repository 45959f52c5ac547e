-- report: what a member does now; renews its lease. Tells the master only what it did not know.
-- Refuses another generation and a request that was sent long ago; whoever is not registered under
-- this incarnation is no member (R9).
if not record or record.identity ~= identity then
  return reply('unverified') -- R16
end
if ask.generation ~= record.generation then
  return refused('other_generation')
end
local _, known = member(ask.id)
if not known or known.incarnation ~= ask.incarnation then
  return reply('not_member', tombstone(ask.id)) -- R9
end
if is_late(ask, known) then
  return reply('conflict')
end
known.health_since_ms = health_since(known, ask.health)
local changed = known.operating_key ~= ask.operating_key
for _, name in ipairs({'standing', 'seen', 'operating_revision', 'failure', 'work', 'health'}) do
  changed = changed or known[name] ~= ask[name]
  known[name] = ask[name]
end
known.operating, known.operating_key = ask.operating, ask.operating_key
known.number = ask.number
known.lease_until_ms = lease_until(known.lease_ms)
if changed then
  known.changed_at_ms = text(now_ms)
  put_member(known)
else
  redis.call('HSET', MEMBERS, ask.id, cjson.encode(known)) -- only the lease: decides nothing
end
return reply('done')
