-- Ends one stored session and refuses its tokens; false if it had ended before.
local function end_session(sub, sid, caller_clock, retention)
  redis.call('ZREM', 'auth:sessions:' .. sub, sid)
  if redis.call('DEL', 'auth:session:' .. sid) == 0 then return false end
  revoke('session', caller_clock, retention, 'sid', sid)
  return true
end
