-- Forgets an account's failures, once for each mailed link that was followed: else whoever has one link would keep the
-- account without a limit for as long as the link counts.
local a = cjson.decode(ARGV[1])
if not redis.call('SET', a.link, '', 'NX', 'PX', a.kept) then return 0 end
redis.call('DEL', unpack(a.failures))
return 1
