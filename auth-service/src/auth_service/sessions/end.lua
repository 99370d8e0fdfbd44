-- Ends one of a person's sessions, or all of them but the one kept; how many ended.
local a = cjson.decode(ARGV[1])
local ended = 0
for _, sid in ipairs(a.sid and {a.sid} or redis.call('ZRANGE', 'auth:sessions:' .. a.sub, 0, -1)) do
  if sid ~= a.keep and end_session(a.sub, sid, a.clock, a.retention) then ended = ended + 1 end
end
return ended
