-- leave: a member's own farewell. Another incarnation than the registered one is no member.
if not record or ask.generation ~= record.generation then
  return reply('unverified')
end
local _, known = member(ask.id)
if not known or known.incarnation ~= ask.incarnation then
  return reply('not_member', '')
end
remove_member(ask.id)
note('left', ask.id, 'installed ' .. known.installed, record.acting)
return reply('done')
