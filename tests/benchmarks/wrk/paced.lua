-- Two-URL tasks with URLs of their own, each connection pausing; args: milliseconds.
dofile("report.lua")

local count, pause = 0, 0

function init(args)
  pause = tonumber(args[1])
end

function delay()
  return math.random(0, 2 * pause)
end

function request()
  count = count + 1
  local url = "http://img.example.com/paced/" .. number .. "/" .. count
  return wrk.format(nil, nil, nil, '{"targets":["' .. url .. '.jpg","' .. url .. '.png"]}')
end
