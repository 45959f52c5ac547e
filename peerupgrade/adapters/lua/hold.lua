-- hold: sets an operator's hold, or releases it. Refuses to release what is not held.
-- That it is durable (R23) is for the caller to find out before it is acknowledged.
if not record or record.identity ~= identity then
  return reply('unverified') -- R16
end
local releases = ask.until_ms == nil
if releases and record.hold == '' then
  return refused('no_hold')
end
local hold = releases and '' or cjson.encode(
  {by = ask.by, reason = ask.reason, at_ms = text(now_ms), until_ms = ask.until_ms})
write({revision = text(record.revision + 1), hold = hold},
  releases and 'released' or 'held', ask.by, ask.reason)
return reply('done')
