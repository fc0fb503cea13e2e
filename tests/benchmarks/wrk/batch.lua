-- Tasks of 100 URLs; args: NDJSON lines per request (0: one task, plain JSON), node.
wrk.method = "POST"

local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

local bodies = {}
local count = 0

local function task(name, node)
  local urls = {}
  for place = 1, 100 do urls[place] = '"http://img.example.com/' .. name .. "/" .. place .. '.jpg"' end
  return '{"targets":[' .. table.concat(urls, ",") .. '],"nodes":["' .. node .. '"]}'
end

function init(args)
  local lines, node = tonumber(args[1]), args[2]
  local path = lines > 0 and "/v1/engine/tasks" or "/v1/engine/task"
  wrk.headers["Content-Type"] = lines > 0 and "application/x-ndjson" or "application/json"
  for variant = 1, lines > 0 and 20 or 200 do
    local parts = {}
    for line = 1, math.max(1, lines) do parts[line] = task(number .. "/" .. variant .. "/" .. line, node) end
    bodies[variant] = wrk.format(nil, path, nil, table.concat(parts, "\n"))
  end
end

function request()
  count = count + 1
  return bodies[count % #bodies + 1]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "RESULT requests=%d duration_us=%d status=%d connect=%d read=%d write=%d timeout=%d p50_us=%d p99_us=%d\n",
    summary.requests, summary.duration, errors.status, errors.connect, errors.read, errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
