-- Tasks of 100 URLs; args: NDJSON lines per request (0: one task, plain JSON), node.
dofile("report.lua")

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
