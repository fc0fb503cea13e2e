-- Two-URL tasks for one node; every request has URLs of its own.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

local count = 0

function request()
  count = count + 1
  local url = "http://img.example.com/" .. number .. "/" .. count
  return wrk.format(nil, nil, nil, '{"targets":["' .. url .. '.jpg","' .. url .. '.png"],"nodes":["edge-1"]}')
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "RESULT requests=%d duration_us=%d status=%d connect=%d read=%d write=%d timeout=%d p50_us=%d p99_us=%d\n",
    summary.requests, summary.duration, errors.status, errors.connect, errors.read, errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
