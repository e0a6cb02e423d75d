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
-- ARGV[8]  reserve: when the caller learned of that rate, by the clock of
-- ARGV[9]  reserve: this server; empty if the caller does not say
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
local CHANGE = 500000          -- Within this time whoever does not say when has learned of another rate.
local BACKSTEP = 100000        -- A smaller step back of the clock is simply waited out.
local LOWEST_SHARE = 500       -- Slowing down stops at half the rate.
local TTL_MILLIS = 3 * 24 * 3600 * 1000

local time = redis.call('TIME')
local now = time[1] * SECOND + time[2]
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local operation, asked = ARGV[1], tonumber(ARGV[2])
if operation == 'meet' then return { server, now, 0, 0, 0, 0 } end

-- next_free    no slot is handed out before this time
-- fixed        nor before this one if the rate rises: the last slot, the end of a hold or a pause
-- last         when this was written
-- spacing      of the rate in force; learned: when the last to ask for it had learned of it
-- share        thousandths of the rate that are used until share_until
-- tail         how late the last slot that was handed out may be used
-- writer       the server process that wrote this
local next_free, fixed, last, spacing, learned, share, share_until, tail, writer
local raw = redis.call('GET', KEYS[1])
if raw then
  next_free, fixed, last, spacing, learned, share, share_until, tail, writer =
    string.match(raw, '^3 (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%w+)$')
end

local trusted = true
if not writer then
  -- Evicted, flushed, lost or new: a second in which slots handed out before can run out.
  trusted = false
  next_free, fixed, spacing, learned, share, share_until, tail = 0, 0, 0, 0, 1000, 0, MAX_LATENESS
else
  next_free, fixed, last = tonumber(next_free), tonumber(fixed), tonumber(last)
  spacing, tail = tonumber(spacing), tonumber(tail)
  learned, share, share_until = tonumber(learned), tonumber(share), tonumber(share_until)
  if writer ~= server or last - now > BACKSTEP then
    -- A fail-over or restart may have lost the last writes, and has another clock; a clock that
    -- stepped back would block for as long. Keep what was left to wait, counted from now.
    trusted = false
    local shift = now - last
    next_free, fixed = next_free + shift, math.max(0, fixed + shift)
    learned, share_until = math.max(0, learned + shift), math.max(0, share_until + shift)
  end
end
if not trusted then
  local pause = math.max(SECOND, MAX_HORIZON + MAX_LATENESS + math.max(spacing, asked))
  next_free, fixed = math.max(next_free, now + pause), math.max(fixed, now + SECOND)
  tail = LATENESS  -- What was handed out before is used up by then.
end

local function save()
  redis.call('SET', KEYS[1], string.format('3 %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %s',
    next_free, fixed, now, spacing, learned, share, share_until, tail, server), 'PX', TTL_MILLIS)
end

-- When the caller learned of the rate that it asks for. Who does not say has learned of a lower one
-- now, and of a higher one a moment ago (CHANGE): so those that learn of a change at different times
-- do not pull the rate up and down.
local function learned_at()
  if operation == 'reserve' and ARGV[9] == server then return math.min(now, tonumber(ARGV[8])) end
  return asked >= spacing and now or now - CHANGE
end

-- What was learned last is in force.
local function in_force()
  return learned_at() >= learned and asked or spacing
end

-- From when on slots are free at this spacing: where the rate rises, what is still to wait for slots
-- at the lower one shrinks with the spacing, and the last of them stays as far away as the next.
local function free_at(chosen)
  local from = math.max(fixed, now)
  if chosen >= spacing or next_free <= from then return next_free end
  return from + math.ceil((next_free - from) * chosen / spacing)
end

local function adopt()
  local chosen = in_force()
  if asked == chosen then learned = math.max(learned, learned_at()) end
  if chosen > spacing and spacing > 0 then
    -- Slowed down: slots of the higher rate are still out there. Start a second after the last of
    -- them, so that no second with a slot of the new rate holds one of the old.
    fixed = math.max(fixed, next_free - spacing + SECOND + tail)
  end
  next_free = math.max(free_at(chosen), fixed)
  spacing = chosen
end

local function step_of(width)
  if share_until <= now then share = 1000 end
  return math.ceil(width * 1000 / share)
end

-- Whoever may be less late than the one before waits until that one's last slot is over for both.
local function first_slot(free, lateness)
  return math.max(free + math.max(0, tail - lateness), now)
end

if operation == 'peek' then
  if not trusted then save() end  -- Else a caller that looks before it takes would wait for ever.
  local chosen = in_force()
  local step, start = step_of(chosen), first_slot(free_at(chosen), LATENESS)
  local free = math.max(0, math.floor((now + SECOND - 1 - start) / step) + 1)
  return { server, now, step, free, start, start - now }
end

local count = tonumber(ARGV[3])
if operation == 'hold' then
  next_free, fixed = math.max(next_free, now + count), math.max(fixed, now + count)
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
local start = first_slot(next_free, lateness)
local granted, retry = 0, 0
if start <= now + math.min(patience, horizon) then
  granted = math.min(count, math.floor((now + horizon - start) / step) + 1)
  if granted < least then granted = 0 end
end
if granted == 0 then
  -- Come back when a fair batch fits, but while others still have slots ahead.
  local batch = math.max(least, math.min(count, math.floor(horizon / step / 2)), 1)
  retry = math.max(1, start - now - patience, start - now + (batch - 1) * step - horizon)
  -- Or when the caller's higher rate counts, whoever asked for the lower one last.
  if asked < spacing then retry = math.min(retry, math.max(1, learned + CHANGE - now)) end
end
if granted > 0 then
  next_free, tail = start + granted * step, lateness
  fixed = math.max(fixed, next_free - step)
end
save()
return { server, now, step, granted, start, retry }
