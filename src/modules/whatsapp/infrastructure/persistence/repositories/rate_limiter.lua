-- Hands out evenly spaced slots for one phone number (GCRA with a burst of one), atomically.
--
-- KEYS[1]  the number's key
-- ARGV[1]  meet | peek | reserve | debit | hold | slow
-- ARGV[2]  spacing: microseconds between two slots at the rate the caller believes in
-- ARGV[3]  reserve, debit: count      hold: microseconds       slow: factor in thousandths
-- ARGV[4]  reserve: least             slow: microseconds
-- ARGV[5]  reserve: latest first slot, microseconds from now
-- ARGV[6]  reserve: horizon, microseconds from now
-- ARGV[7]  reserve: lateness, microseconds after a slot until which the caller may use it
-- Reply    { server, now, step, granted, start, retry }: slot i may be used at start + i * step on
--          this server's clock; of `peek`, granted is what is free within one second.
--
-- All times are whole microseconds, which a Lua number holds exactly; they are written with %.0f,
-- because tostring() would round them.
local SECOND = 1000000
local LATENESS = 8000          -- So late a slot may be reached by callers that say nothing else,
local MAX_LATENESS = 250000    -- and so late by those that ask for it and pay with wider spacing.
local SPACED_SECOND = SECOND + LATENESS
local MAX_HORIZON = 250000     -- Slots that were handed out have come after this time.
local CHANGE = 500000          -- Within this time all workers have learned of another rate.
local BACKSTEP = 100000        -- A smaller step back of the clock is simply waited out.
local LOWEST_SHARE = 500       -- Slowing down stops at half the rate.
local TTL_MILLIS = 3 * 24 * 3600 * 1000

local time = redis.call('TIME')
local now = time[1] * SECOND + time[2]
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local operation, asked = ARGV[1], tonumber(ARGV[2])
if operation == 'meet' then return { server, now, 0, 0, 0, 0 } end

-- next_free    no slot is handed out before this time
-- last         when this was written
-- spacing      of the rate in force; seen: when it was last asked for
-- share        thousandths of the rate that are used until share_until
-- tail         how late the last slot that was handed out may be used
-- writer       the server process that wrote this
local next_free, last, spacing, seen, share, share_until, tail, writer
local raw = redis.call('GET', KEYS[1])
if raw then
  next_free, last, spacing, seen, share, share_until, tail, writer =
    string.match(raw, '^2 (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%w+)$')
end

local trusted = true
if not writer then
  -- Evicted, flushed, lost or new: a second in which slots handed out before can run out.
  trusted = false
  next_free, spacing, seen, share, share_until, tail = 0, 0, now, 1000, 0, MAX_LATENESS
else
  next_free, last, spacing = tonumber(next_free), tonumber(last), tonumber(spacing)
  tail = tonumber(tail)
  seen, share, share_until = tonumber(seen), tonumber(share), tonumber(share_until)
  if writer ~= server or last - now > BACKSTEP then
    -- A fail-over or restart may have lost the last writes, and has another clock; a clock that
    -- stepped back would block for as long. Keep what was left to wait, counted from now.
    trusted = false
    local shift = now - last
    next_free, seen = next_free + shift, seen + shift
    share_until = math.max(0, share_until + shift)
  end
end
if not trusted then
  local pause = math.max(SECOND, MAX_HORIZON + MAX_LATENESS + math.max(spacing, asked))
  next_free = math.max(next_free, now + pause)
  tail = LATENESS  -- What was handed out before is used up by then.
end

local function save()
  redis.call('SET', KEYS[1], string.format('2 %.0f %.0f %.0f %.0f %.0f %.0f %.0f %s',
    next_free, now, spacing, seen, share, share_until, tail, server), 'PX', TTL_MILLIS)
end

-- The lowest rate that anyone asked for a moment ago (CHANGE) is in force, so that workers which
-- learn of a change at different times do not pull it up and down.
local function in_force()
  if asked >= spacing or now - seen >= CHANGE then return asked end
  return spacing
end

local function adopt()
  local chosen = in_force()
  if chosen > spacing and spacing > 0 then
    -- Slowed down: slots of the higher rate are still out there. Start a second after the last of
    -- them, so that no second with a slot of the new rate holds one of the old.
    next_free = math.max(next_free, next_free - spacing + SECOND + tail)
  end
  if asked >= chosen then seen = now end
  spacing = chosen
end

local function step_of(width)
  if share_until <= now then share = 1000 end
  return math.ceil(width * 1000 / share)
end

-- Whoever may be less late than the one before waits until that one's last slot is over for both.
local function first_slot(lateness)
  return math.max(next_free + math.max(0, tail - lateness), now)
end

if operation == 'peek' then
  if not trusted then save() end  -- Else a caller that looks before it takes would wait for ever.
  local step, start = step_of(in_force()), first_slot(LATENESS)
  local free = math.max(0, math.floor((now + SECOND - 1 - start) / step) + 1)
  return { server, now, step, free, start, start - now }
end

local count = tonumber(ARGV[3])
if operation == 'hold' then
  next_free = math.max(next_free, now + count)
  save()
  return { server, now, 0, 0, 0, 0 }
end

if operation == 'slow' then
  local duration = tonumber(ARGV[4])
  step_of(0)
  -- One burst of refusals counts once.
  if share_until <= now or now - (share_until - duration) >= SECOND then
    share = math.max(LOWEST_SHARE, math.floor(share * count / 1000))
  end
  share_until = math.max(share_until, now + duration)
  save()
  return { server, now, 0, 0, 0, 0 }
end

adopt()
if operation == 'debit' then
  local step, start = step_of(spacing), math.max(next_free, now)
  -- What came in more than a second ago no longer counts, so nothing waits longer than that.
  next_free = math.max(next_free, math.min(start + count * step, now + SECOND))
  save()
  return { server, now, step, 0, 0, 0 }
end

local least, patience = tonumber(ARGV[4]), tonumber(ARGV[5])
local horizon = math.min(tonumber(ARGV[6]), MAX_HORIZON)
local lateness = math.max(LATENESS, math.min(tonumber(ARGV[7]), MAX_LATENESS))
local step = math.ceil(step_of(spacing) * (SECOND + lateness) / SPACED_SECOND)
local start = first_slot(lateness)
local granted, retry = 0, 0
if start <= now + math.min(patience, horizon) then
  granted = math.min(count, math.floor((now + horizon - start) / step) + 1)
  if granted < least then granted = 0 end
end
if granted == 0 then
  -- Come back when a fair batch fits, but while others still have slots ahead.
  local batch = math.max(least, math.min(count, math.floor(horizon / step / 2)), 1)
  retry = math.max(1, start - now - patience, start - now + (batch - 1) * step - horizon)
end
if granted > 0 then
  next_free, tail = start + granted * step, lateness
end
save()
return { server, now, step, granted, start, retry }
