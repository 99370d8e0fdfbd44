-- Replaces the ring that was read by the one computed from it, unless another replica was first; a revoked key leaves with it.
local a = cjson.decode(ARGV[1])
if redis.call('GET', 'auth:keyring') ~= a.read then return 0 end
redis.call('SET', 'auth:keyring', a.ring)
if a.revoked then revoke('key', a.clock, a.retention, 'kid', a.revoked) end
return 1
