-- Ends one stored session and refuses its tokens; until when, or false if it had ended before.
local function end_session(sub, sid, caller_clock, retention)
  redis.call('ZREM', 'auth:sessions:' .. sub, sid)
  if redis.call('DEL', 'auth:session:' .. sid) == 0 then return false end
  return revoke('session', caller_clock, retention, 'sid', sid)
end
