-- The same two-URL task again and again: what the peer parses, without the cost of making URLs.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

wrk.body = '{"targets":["http://img.example.com/1.jpg","http://img.example.com/1.png"],"nodes":["edge-1"]}'

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "RESULT requests=%d duration_us=%d status=%d connect=%d read=%d write=%d timeout=%d p50_us=%d p99_us=%d\n",
    summary.requests, summary.duration, errors.status, errors.connect, errors.read, errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
