-- Writes a client's record in place of the one that was read, or of none, unless somebody else was first.
local a = cjson.decode(ARGV[1])
if (redis.call('HGET', 'auth:clients', a.client) or nil) ~= a.read then return 0 end
redis.call('HSET', 'auth:clients', a.client, a.text)
return 1
