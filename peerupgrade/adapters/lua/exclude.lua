-- exclude: removes a member and leaves a tombstone: that incarnation never returns.
-- Refuses while the store is in quarantine (R16), when another incarnation lives there by now (R2),
-- and without the operator's word that it is stopped: a member without a lease, and one whose lease
-- still runs on the store's side (R7). For a master also while the store is not verified, when a newer
-- mastership has begun (R1), and when the lease was renewed since the master saw it (R2).
local TOMBSTONE_MS = 30 * 24 * 3600 * 1000 -- far beyond any lease, any outage and any holiday
if not record or (record.identity ~= identity and quarantined()) then
  return reply('unverified') -- R16
end
if ask.token ~= '' then
  if record.identity ~= identity then
    return reply('unverified') -- R16
  elseif is_fenced() then
    return reply('fenced') -- R1
  end
end
local found, known = member(ask.id)
if not known then
  return reply('not_member', tombstone(ask.id))
end
if known.incarnation ~= ask.incarnation then
  return reply('conflict') -- R2
end
if ask.confirm_stopped == '' then
  if known.lease_ms == '0' then
    return refused('may_be_alive', found)
  elseif ask.token ~= '' and ask.lease_until_ms ~= known.lease_until_ms then
    return refused('lease_runs', found) -- R2
  elseif now_ms < tonumber(known.lease_until_ms) then
    return refused('lease_runs', found) -- R7
  end
end
remove_member(ask.id)
local tombstones = redis.call('HGETALL', EXCLUDED)
for i = 1, #tombstones, 2 do
  if now_ms - cjson.decode(tombstones[i + 1]).at_ms > TOMBSTONE_MS then
    redis.call('HDEL', EXCLUDED, tombstones[i])
  end
end
redis.call('HSET', EXCLUDED, ask.id, cjson.encode({
  id = ask.id,
  incarnation = known.incarnation,
  token = known.token,
  by = ask.by,
  reason = ask.reason,
  at_ms = text(now_ms),
}))
publish(RECORD_CHANNEL, {heard = 'excluded', id = ask.id, incarnation = known.incarnation})
note('excluded', ask.by, ask.id .. ': ' .. ask.reason, record.acting)
return reply('done')
