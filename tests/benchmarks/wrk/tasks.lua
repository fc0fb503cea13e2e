-- Two-URL tasks for one node; every request has URLs of its own.
dofile("report.lua")

local count = 0

function request()
  count = count + 1
  local url = "http://img.example.com/" .. number .. "/" .. count
  return wrk.format(nil, nil, nil, '{"targets":["' .. url .. '.jpg","' .. url .. '.png"],"nodes":["edge-1"]}')
end
