-- init: makes the cluster record where there is none, or none that had formed on this server process.
-- Refuses nothing: where there is one, nothing changes.
-- A cluster that has not formed yet has nothing to lose: on another server it begins anew.
if not record or (record.acting == '' and record.identity ~= identity) then
  local new = ask.record
  new.created_at_ms = text(now_ms)
  new.hold = record and record.hold or ''
  new.identity = identity
  remove_all_members()
  redis.call('HINCRBY', RECORD, '_members_revision', 1)
  -- An empty store may be a wiped one: whoever remembers more has this long to say so.
  put({
    _incarnations = record and beyond(own._incarnations or '0') or '0',
    _master_token = '',
    _suspect = identity,
    _quarantine_until_ms = text(now_ms + ask.quarantine_ms),
  })
  write(new, 'created', '', '')
end
return reply('view')
