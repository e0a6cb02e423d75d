-- Says which of the channels a worker is to serve for the next moment, for many at once.
--
-- KEYS[1]  hash: a channel's drivers, each as "worker ends stance;"
-- KEYS[2]  sorted set: workers by the time at which they are forgotten
-- ARGV[1]  the worker
-- ARGV[2]  milliseconds for which a channel is given
-- ARGV[3]  milliseconds for which a worker is remembered; 0: it is leaving the channels that follow
-- ARGV[4]  and so on: channel, stance (0 alone, 1 join, 2 relieve, 3 look), channel, stance ...
-- Reply    { how many workers there are, for each channel 1 or 0 }
local ALONE, JOIN, RELIEVE, LOOK = 0, 1, 2, 3
local FORGOTTEN_AFTER = 60000  -- So long after the last question both keys are gone.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me, span, remembered = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

-- Those that still drive the channel, without me; and whether I did.
local function drivers_of(channel)
  local others, mine = {}, false
  local raw = redis.call('HGET', KEYS[1], channel) or ''
  for worker, ends, stance in string.gmatch(raw, '(%S+) (%d+) (%d);') do
    -- What lies too far ahead was written before the clock stepped back.
    if tonumber(ends) > now and tonumber(ends) <= now + span then
      if worker == me then
        mine = true
      else
        others[#others + 1] = { worker = worker, ends = ends, stance = tonumber(stance) }
      end
    end
  end
  return others, mine
end

local function save(channel, drivers)
  local written = {}
  for _, one in ipairs(drivers) do
    written[#written + 1] = string.format('%s %s %d;', one.worker, one.ends, one.stance)
  end
  if #written == 0 then
    redis.call('HDEL', KEYS[1], channel)
  else
    redis.call('HSET', KEYS[1], channel, table.concat(written))
  end
end

-- Whether I am to serve beside these; one that asks to be relieved is taken off the list for me.
local function has_place(others, mine, stance)
  local wanted, senior = true, false
  for index, one in ipairs(others) do
    if one.stance == RELIEVE and not mine then
      if stance ~= LOOK then table.remove(others, index) end
      return true
    end
    wanted = wanted and one.stance == JOIN
    senior = senior or (one.stance == ALONE and one.worker < me)
  end
  if mine then return not (senior and stance == ALONE) end
  return wanted
end

local reply = { 0 }
if remembered > 0 then
  redis.call('ZADD', KEYS[2], now + remembered, me)
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], now + math.max(remembered, FORGOTTEN_AFTER) + 1, '+inf')
reply[1] = redis.call('ZCARD', KEYS[2])

for index = 4, #ARGV, 2 do
  local channel, stance = ARGV[index], tonumber(ARGV[index + 1])
  local others, mine = drivers_of(channel)
  local placed = remembered > 0 and has_place(others, mine, stance)
  if placed and stance ~= LOOK then
    others[#others + 1] = { worker = me, ends = string.format('%.0f', now + span), stance = stance }
  end
  if mine or (placed and stance ~= LOOK) then save(channel, others) end
  reply[#reply + 1] = placed and 1 or 0
end
redis.call('PEXPIRE', KEYS[1], FORGOTTEN_AFTER)
redis.call('PEXPIRE', KEYS[2], FORGOTTEN_AFTER)
return reply
