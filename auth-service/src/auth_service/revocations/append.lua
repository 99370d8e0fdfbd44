-- The shared beginning of every script that ends something early: Redis's clock, and the stream's writer, which returns 'until'.
local STREAM = 'auth:revocations'

local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- 'until' counts from the later of two clocks, so that neither one that stepped back shortens what a revocation must outlive.
-- Entries are trimmed by their own 'until', never by age: ids stand still after Redis's clock stepped back.
local function revoke(kind, caller_clock, retention, ...)
  local now = math.max(clock(), caller_clock)
  local ends = string.format('%.0f', math.ceil((now + retention) / 1000))
  redis.call('XADD', STREAM, '*', 'kind', kind, 'until', ends, ...)
  local first
  for _, entry in ipairs(redis.call('XRANGE', STREAM, '-', '+', 'COUNT', 100)) do
    first = entry[1]
    local until_then = tonumber(entry[2][4])  -- nil for an entry that somebody else has written
    if until_then and until_then * 1000 >= now then break end
  end
  redis.call('XTRIM', STREAM, 'MINID', '=', first)
  return ends
end

-- The key of a person's sessions. What somebody else has put there, of another type, would fail every script that asks.
local function index_of(sub)
  local index = 'auth:sessions:' .. sub
  local kind = redis.call('TYPE', index).ok
  if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', index) end
  return index
end
