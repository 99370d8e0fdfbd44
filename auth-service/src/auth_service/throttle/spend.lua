-- Spends one sign-in attempt from every allowance, or from none. It counts as failed until `refund` says otherwise,
-- so that attempts under way at once are all counted.
-- Without a `backoff` it is no attempt: only the allowances are spent.
local a = cjson.decode(ARGV[1])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local failures, locked = 0, 0
if a.backoff then
  failures, locked = unpack(redis.call('HMGET', a.backoff, 'failures', 'until'))
  failures, locked = tonumber(failures or 0), tonumber(locked or 0)
end
local wait, scarcest, least, reset = locked - now, 1, math.huge, 0
-- A clock that stepped back must not turn a wait into a longer one than we ever impose.
if wait > a.longest then wait = 0 end
if wait > 0 then return {wait, 1, 0, wait} end

local arrival = {}
for i, allowance in ipairs(a.allowances) do
  local spent = math.min(math.max(tonumber(redis.call('GET', allowance.key) or 0), now), now + allowance.burst * allowance.interval)
  arrival[i] = spent + allowance.interval
  local left = math.floor((now - arrival[i]) / allowance.interval) + allowance.burst
  wait = math.max(wait, arrival[i] - now - allowance.burst * allowance.interval)
  if left < least then scarcest, least, reset = i, left, arrival[i] - now end
end
if wait > 0 then return {wait, scarcest, 0, wait} end

for i, allowance in ipairs(a.allowances) do
  redis.call('SET', allowance.key, string.format('%.0f', arrival[i]), 'PX', allowance.burst * allowance.interval * 2)
end
if not a.backoff then return {0, scarcest, least, reset} end
failures = failures + 1
local delay = failures > a.free and math.min(1000 * 2 ^ (failures - a.free - 1), a.longest) or 0
redis.call('HSET', a.backoff, 'failures', failures, 'until', string.format('%.0f', now + delay))
redis.call('PEXPIRE', a.backoff, a.longest * 2)
return {0, scarcest, least, reset}
