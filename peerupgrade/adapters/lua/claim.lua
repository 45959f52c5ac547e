-- claim: whoever holds the lock takes the next epoch; a second claim with one token gets the same.
-- Refuses a store whose identity changed and that nobody has attached to yet, and when the lock is not
-- held with this token. The epoch is above any that is remembered anywhere (R30).
if not record or (record.identity ~= identity and own._suspect ~= identity) then
  return reply('unverified') -- R30: the store may have forgotten the newest epochs
end
if redis.call('GET', LOCK) ~= ask.token then
  return refused('not_held')
end
if own._master_token ~= ask.token then
  put({_master_token = ask.token})
  local epoch = math.max(tonumber(record.epoch), tonumber(ask.epoch_floor)) + 1
  write({epoch = text(epoch), master = ask.id}, 'master', ask.id, '')
end
return reply('claimed')
