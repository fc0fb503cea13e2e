-- Two-URL tasks for one node; every request has URLs of its own.
dofile("report.lua")

local count = 0
local head

-- The head is made once: wrk.format for each request is a tenth of what wrk takes from the cores we share.
function init()
  head = wrk.format(nil, nil, nil, ""):gsub("Content%-Length: 0\r\n", ""):gsub("\r\n\r\n$", "\r\nContent-Length: ")
end

function request()
  count = count + 1
  local url = "http://img.example.com/" .. number .. "/" .. count
  local body = '{"targets":["' .. url .. '.jpg","' .. url .. '.png"],"nodes":["edge-1"]}'
  return head .. #body .. "\r\n\r\n" .. body
end
