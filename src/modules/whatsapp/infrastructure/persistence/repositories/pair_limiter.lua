-- Keeps the messages of one number to single users under Meta's limit per pair, for many at once.
--
-- KEYS     one per user, all of one number and so of one slot of a cluster
-- ARGV[1]  take | give | hold
-- ARGV[2]  microseconds between two messages
-- ARGV[3]  how many messages may go at once, borrowed from later
-- ARGV[4]  hold: microseconds for which none may go      give: for each key the mark of what was taken
-- Reply    take: for each key, how many microseconds to wait, 0 if it was taken, and then a mark of
--          that; give: for each key 1 if it was given back
--
-- A key holds the time, in whole microseconds, until which the user's quota is used up, and when it
-- was written. A key that is missing means that nothing was used: what Meta then refuses comes back
-- by its own code.
local BACKSTEP = 100000  -- A smaller step back of the clock is simply waited out.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[2])
local borrowed = (tonumber(ARGV[3]) - 1) * interval

local function save(key, used_until)
  redis.call('SET', key, string.format('%.0f %.0f', used_until, now), 'PX',
    math.ceil((used_until - now) / 1000) + 1000)
end

local function load(key)
  local used_until, written = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  if not written then return 0 end
  used_until, written = tonumber(used_until), tonumber(written)
  if written - now > BACKSTEP then
    -- The clock stepped back, which would rest the user for as long: keep what was left, from now,
    -- and say so, or it would be as much at every look until the clock is where it was.
    used_until = math.max(now, used_until - written + now)
    save(key, used_until)
  end
  return used_until
end

local reply = {}
for index, key in ipairs(KEYS) do
  local used_until = load(key)
  if ARGV[1] == 'give' then
    -- Only what was taken last can be given back without a trace of it.
    local is_last = used_until > now and string.format('%.0f', used_until) == ARGV[3 + index]
    if is_last then save(key, math.max(used_until - interval, now)) end
    reply[index] = is_last and 1 or 0
  elseif ARGV[1] == 'hold' then
    -- A microsecond more than what was taken: nobody gives that back, and the hold with it.
    save(key, math.max(used_until + 1, now + borrowed + tonumber(ARGV[4])))
    reply[index] = 0
  else
    used_until = math.max(used_until, now)
    local wait = math.max(0, used_until - now - borrowed)
    if wait == 0 then
      used_until = used_until + interval
      save(key, used_until)
    end
    reply[2 * index - 1], reply[2 * index] = wait, used_until
  end
end
return reply
