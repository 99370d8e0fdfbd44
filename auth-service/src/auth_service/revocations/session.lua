-- Refuses the tokens of a sid that has no stored session (a client's own token); until when.
local a = cjson.decode(ARGV[1])
return revoke('session', a.clock, a.retention, 'sid', a.sid)
