-- Starts a session, whose record was made and authenticated by the caller; beyond the limit the person's oldest ends.
local a = cjson.decode(ARGV[1])
local now = clock()
local index, key = index_of(a.sub), 'auth:session:' .. a.sid
for _, sid in ipairs(redis.call('ZRANGE', index, 0, -1)) do
  if redis.call('EXISTS', 'auth:session:' .. sid) == 0 then redis.call('ZREM', index, sid) end
end
local surplus = redis.call('ZCARD', index) - a.limit
if surplus >= 0 then
  for _, sid in ipairs(redis.call('ZRANGE', index, 0, surplus)) do end_session(a.sub, sid, a.clock, a.retention) end
end
local expires = now + a.absolute
redis.call('HSET', key, 'made', now, 'used', a.used, unpack(a.record))
redis.call('PEXPIREAT', key, math.min(now + a.idle, expires))
redis.call('ZADD', index, now, a.sid)
-- Never sooner than that of a session which began while sessions might last longer: it could not be found to be ended.
redis.call('PEXPIREAT', index, math.max(expires, redis.call('PEXPIRETIME', index)))
return 1
