-- Tasks of one URL; every request has a URL of its own.
dofile("report.lua")

local count = 0
local head

function init()
  head = wrk.format(nil, nil, nil, ""):gsub("Content%-Length: 0\r\n", ""):gsub("\r\n\r\n$", "\r\nContent-Length: ")
end

function request()
  count = count + 1
  local body = '{"targets":["http://img.example.com/' .. number .. "/" .. count .. '.jpg"]}'
  return head .. #body .. "\r\n\r\n" .. body
end
