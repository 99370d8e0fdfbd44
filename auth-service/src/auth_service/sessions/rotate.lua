-- Spends a refresh token that has been proved, in one act: integers are compared, nothing else decides.
--   the current pair              makes the next generation                       rotated
--   its parent, within the grace  gets the current pair again, moving no clock    replayed
--   its parent, later             makes the next attempt (a late retry)           retried
--   a pair the store never made   changes nothing (an older copy was restored)    ahead
--   every other older pair        ends the session                                reused
local a = cjson.decode(ARGV[1])
local key = 'auth:session:' .. a.sid
local s = redis.call('HMGET', key, 'sub', 'expires', 'cv', 'generation', 'attempt', 'parent_attempt', 'made')
if not s[1] then return {'ended', 0, 0} end
local sub, expires, cv, generation, attempt, parent_attempt, made =
  s[1], tonumber(s[2]), tonumber(s[3]), tonumber(s[4]), tonumber(s[5]), tonumber(s[6]), tonumber(s[7])
local now = clock()

local function make(next_generation, next_attempt, next_parent_attempt)
  redis.call('HSET', key, 'generation', next_generation, 'attempt', next_attempt, 'parent_attempt', next_parent_attempt,
    'made', now, 'used', now, 'cv', math.max(cv, a.cv))
  redis.call('PEXPIREAT', key, math.min(now + a.idle, expires))
end

if a.generation == generation and a.attempt == attempt then
  make(generation + 1, 0, attempt)
  return {'rotated', generation + 1, 0}
end
if a.generation == generation - 1 and a.attempt == parent_attempt then
  if now - made < a.grace then return {'replayed', generation, attempt} end
  make(generation, attempt + 1, parent_attempt)
  return {'retried', generation, attempt + 1}
end
if a.generation > generation or (a.generation == generation and a.attempt > attempt) then return {'ahead', 0, 0} end
end_session(sub, a.sid, a.clock, a.retention)
return {'reused', 0, 0}
