-- read: the record alone. Refuses nothing.
return reply('view')
