-- Creates what verifiers rely on, in one act, where any of it is absent: the key ring, the epoch and the stream's first entry.
-- All or nothing: whoever lost one of them may have lost revocations, so that older tokens must be refused by their key.
local a = cjson.decode(ARGV[1])
if redis.call('EXISTS', 'auth:keyring', 'auth:epoch', STREAM) == 3 then return 0 end
redis.call('SET', 'auth:keyring', a.ring)
redis.call('SET', 'auth:epoch', a.epoch)
redis.call('XADD', STREAM, '*', 'kind', 'start', 'until', '0')
return 1
