-- Refuses a person's tokens older than a credentials version, and ends their sessions older than sessions_cv; how many ended.
-- A session that ends here needs no entry of its own: the person's refuses its tokens. Repeats change nothing.
local a = cjson.decode(ARGV[1])
local known = 'auth:cv:' .. a.sub
local ended = 0
local version = redis.pcall('GET', known)
if a.cv > (type(version) == 'string' and tonumber(version) or -1) then
  redis.call('SET', known, a.cv, 'PX', string.format('%.0f', a.retention))
  revoke('subject', a.clock, a.retention, 'sub', a.sub, 'cv', a.cv)
end
local index = index_of(a.sub)
for _, sid in ipairs(redis.call('ZRANGE', index, 0, -1)) do
  local cv = redis.pcall('HGET', 'auth:session:' .. sid, 'cv')
  -- What is no record of ours ends, too: one of another type, or without a number.
  if cv and (type(cv) ~= 'string' or (tonumber(cv) or -1) < a.sessions_cv) then
    redis.call('DEL', 'auth:session:' .. sid)
    redis.call('ZREM', index, sid)
    ended = ended + 1
  end
end
return ended
