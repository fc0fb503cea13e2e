-- Purges as a client of a cache sends them; every request has a path of its own.
dofile("report.lua")

local count = 0

function request()
  count = count + 1
  return "PURGE /" .. number .. "/" .. count .. ".jpg HTTP/1.1\r\nHost: img.example.com\r\nUser-Agent: cms/1.0\r\nAccept: */*\r\n\r\n"
end
