-- Ends one of a person's sessions, or all of them but the one kept, the newest first; which ended, each with until when its tokens are refused.
local a = cjson.decode(ARGV[1])
local ended = {}
for _, sid in ipairs(a.sid and {a.sid} or redis.call('ZREVRANGE', index_of(a.sub), 0, -1)) do
  local ends = sid ~= a.keep and end_session(a.sub, sid, a.clock, a.retention)
  if ends then
    ended[#ended + 1] = sid
    ended[#ended + 1] = ends
  end
end
return ended
