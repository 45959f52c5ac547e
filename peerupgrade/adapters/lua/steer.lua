-- steer: somebody starts a rollout, or changes how it goes on, or asks for a downgrade.
-- Refuses when the record has moved since that was decided (R2).
if not record or record.identity ~= identity then
  return reply('unverified') -- R16
end
if ask.revision ~= record.revision then
  return reply('conflict') -- R2
end
write({revision = text(record.revision + 1), rollout = ask.rollout, downgrade = ask.downgrade},
  ask.kind, ask.by, ask.reason)
return reply('done')
