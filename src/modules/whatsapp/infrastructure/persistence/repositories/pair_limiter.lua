-- Keeps the messages of one number to single users under Meta's limit per pair, for many at once.
--
-- KEYS     one per user, all of one number and so of one slot of a cluster
-- ARGV[1]  take | hold
-- ARGV[2]  microseconds between two messages
-- ARGV[3]  how many messages may go at once, borrowed from later
-- ARGV[4]  hold: microseconds for which none may go
-- Reply    take: for each key, how many microseconds to wait; 0 means taken
--
-- A key holds the time, in whole microseconds, until which the user's quota is used up. A key that
-- is missing means that nothing was used: what Meta then refuses comes back by its own code.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[2])
local borrowed = (tonumber(ARGV[3]) - 1) * interval

local function save(key, used_until)
  redis.call('SET', key, string.format('%.0f', used_until), 'PX',
    math.ceil((used_until - now) / 1000) + 1000)
end

local waits = {}
for index, key in ipairs(KEYS) do
  local used_until = math.max(tonumber(redis.call('GET', key) or '0'), now)
  if ARGV[1] == 'hold' then
    save(key, math.max(used_until, now + borrowed + tonumber(ARGV[4])))
    waits[index] = 0
  else
    local wait = used_until - now - borrowed
    if wait <= 0 then
      save(key, used_until + interval)
      wait = 0
    end
    waits[index] = wait
  end
end
return waits
