-- The first lines of every script of the store.
local function text(number)
  return string.format('%.0f', number)
end

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

