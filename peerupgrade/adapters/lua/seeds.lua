-- seeds: where a few other members gossip, drawn at random. Refuses nothing.
local DRAWN = 6
local addresses = {}
local drawn = redis.call('HRANDFIELD', MEMBERS, DRAWN, 'WITHVALUES')
for i = 1, #drawn, 2 do
  local other = cjson.decode(drawn[i + 1])
  if drawn[i] ~= ask.id and (other.gossip or '') ~= '' then
    addresses[#addresses + 1] = other.gossip
  end
end
return reply('seeds', addresses)
