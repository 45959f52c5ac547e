-- hold: sets an operator's hold, or releases it; of the acting version, or of the conversion (pause).
-- Refuses to release what is not held.
-- That it is durable (R23) is for the caller to find out before it is acknowledged.
if not record or record.identity ~= identity then
  return reply('unverified') -- R16
end
local KINDS = {hold = {'held', 'released'}, pause = {'paused', 'resumed'}}
local releases = ask.until_ms == nil
if releases and (record[ask.what] or '') == '' then
  return refused('no_' .. ask.what)
end
local hold = releases and '' or cjson.encode(
  {by = ask.by, reason = ask.reason, at_ms = text(now_ms), until_ms = ask.until_ms})
write({revision = text(record.revision + 1), [ask.what] = hold},
  KINDS[ask.what][releases and 2 or 1], ask.by, ask.reason)
return reply('done')
