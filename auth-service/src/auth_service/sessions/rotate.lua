-- Puts a session's next record in place of the one that the caller has read and verified, in one act: of several refreshes
-- at once one is first, and the others look again. Nothing that is stored is believed here; both records come from the
-- caller, who alone can authenticate them. `made` and `used`, by this clock, are outside of them and decide no right.
local a = cjson.decode(ARGV[1])
local key = 'auth:session:' .. a.sid
local mac, made = unpack(redis.call('HMGET', key, 'mac', 'made'))
if mac ~= a.read then return 'changed' end
local now = clock()
-- Whoever presents the parent within the grace is handed out the current pair again, and moves no clock.
if a.grace and now - (tonumber(made) or 0) < a.grace then return 'replayed' end
redis.call('HSET', key, 'made', now, 'used', now, unpack(a.record))
redis.call('PEXPIREAT', key, math.min(now + a.idle, a.expires))
return 'rotated'
