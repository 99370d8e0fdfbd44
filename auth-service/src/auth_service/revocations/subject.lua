-- Refuses a person's tokens older than a credentials version, and ends their sessions older than sessions_cv; how many ended.
-- A session that ends here needs no entry of its own: the person's refuses its tokens. Repeats change nothing.
local a = cjson.decode(ARGV[1])
local known = 'auth:cv:' .. a.sub
local ended = 0
if a.cv > (tonumber(redis.call('GET', known) or '') or -1) then
  redis.call('SET', known, a.cv, 'PX', string.format('%.0f', a.retention))
  revoke('subject', a.clock, a.retention, 'sub', a.sub, 'cv', a.cv)
end
for _, sid in ipairs(redis.call('ZRANGE', 'auth:sessions:' .. a.sub, 0, -1)) do
  local cv = redis.call('HGET', 'auth:session:' .. sid, 'cv')
  if cv and tonumber(cv) < a.sessions_cv then
    redis.call('DEL', 'auth:session:' .. sid)
    redis.call('ZREM', 'auth:sessions:' .. a.sub, sid)
    ended = ended + 1
  end
end
return ended
