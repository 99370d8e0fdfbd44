-- Gives an attempt back to every allowance: it succeeded, so the failures before it are forgotten too; or it was never
-- decided, so it counts as not made.
local a = cjson.decode(ARGV[1])
if a.succeeded then
  redis.call('DEL', a.backoff)
elseif redis.call('EXISTS', a.backoff) == 1 then
  redis.call('HINCRBY', a.backoff, 'failures', -1)
  redis.call('HSET', a.backoff, 'until', 0)
end
for _, allowance in ipairs(a.allowances) do
  local arrival = redis.call('GET', allowance.key)
  if arrival then redis.call('SET', allowance.key, string.format('%.0f', arrival - allowance.interval), 'KEEPTTL') end
end
return 1
