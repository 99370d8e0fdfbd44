-- Refuses the tokens of a sid that has no stored session (a client's own token).
local a = cjson.decode(ARGV[1])
revoke('session', a.clock, a.retention, 'sid', a.sid)
return 1
