-- The attempt succeeded: every allowance gets it back, and the account's failures are forgotten.
local a = cjson.decode(ARGV[1])
redis.call('DEL', a.backoff)
for _, allowance in ipairs(a.allowances) do
  local arrival = redis.call('GET', allowance.key)
  if arrival then redis.call('SET', allowance.key, string.format('%.0f', arrival - allowance.interval), 'KEEPTTL') end
end
return 1
