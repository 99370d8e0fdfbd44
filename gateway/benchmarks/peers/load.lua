-- wrk's script, `-- FILE`: a file of one token is a token seen before; otherwise each line is sent once.
local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

function init(args)
   exhausted = false
   local lines = io.lines(args[1])
   local first, second = lines(), lines()
   if not second then
      local message = wrk.format("GET", nil, { Authorization = "Bearer " .. first, Host = wrk.headers["Host"] })
      request = function() return message end
      return
   end
   local waiting = { second, first }
   local token
   request = function()
      -- The file is closed at its end. wrk asks on until all of its connections have stopped: the last token serves them.
      local following = table.remove(waiting) or (not exhausted and lines())
      if following then
         token = following
      else
         exhausted = true
         wrk.thread:stop()
      end
      return wrk.format("GET", nil, { Authorization = "Bearer " .. token, Host = wrk.headers["Host"] })
   end
end

function done(summary, latency)
   local failed = summary.errors
   local ran_out = false
   for _, thread in ipairs(threads) do
      ran_out = ran_out or thread:get("exhausted")
   end
   print(string.format(
      '{"requests": %d, "seconds": %.6f, "failed": %d, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f, "ran_out": %s}',
      summary.requests, summary.duration / 1e6,
      failed.connect + failed.read + failed.write + failed.status + failed.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3, tostring(ran_out)))
end
