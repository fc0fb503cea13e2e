"""The script that changes a stored document and drops the rows that it counts, in one step; see `scripts`."""

from __future__ import annotations

from typing import Final

from engine.store.redis.script import Script
from engine.store.redis.scripts import JOURNAL, STAMP, WHO

CHANGE: Final = Script(
    JOURNAL
    + STAMP
    + WHO
    + """
-- Changes a stored document that is as it was read, and drops rows that it counts. It has to be as it was
-- read also when there is no new one: it may have been read from a server that was no master any more, and
-- what that had counted is counted here by nobody.
-- KEYS document, stream, due, delayed, behind, fence, clock, queues of the rows, queues of what waits
-- ARGV group, consumer, tag, what was read, new document, ms, callback, fence, drop behind, server,
--   count, then per row: queue, member, must be there, parent token, target
-- What was read: '' for nothing, '@' for a task at work, else the document's digest. Server: the one that has
-- to do it, empty: any. Answers an entry, 'changed', 'fenced' or 'elsewhere'. Rows of a cancelled task that
-- are other rows by now do not go.
local tag, document, fence, now = ARGV[3], ARGV[5], ARGV[8], nil
if ARGV[10] ~= '' and ARGV[10] ~= who() then return 'elsewhere' end
if fence ~= '' then
  local newest = tonumber(redis.call('GET', KEYS[6]) or '0')
  if tonumber(fence) < newest then return 'fenced' end
  if tonumber(fence) > newest then redis.call('SET', KEYS[6], fence) end
end
-- All is read before anything is written, and what empties a key is the last that is done to it: the key of a
-- slot on the move is not found again, which breaks a script off.
local first, count = 12, tonumber(ARGV[11])
local old = redis.call('GET', KEYS[1])
local is = not old and '' or string.sub(old, 1, 1) == '@' and '@' or redis.sha1hex(old)
if is ~= ARGV[4] then return 'changed' end
local leaving, leaves = {}, {}
local function leave(key, member)
  if leaves[key .. member] then return false end
  leaves[key .. member] = true
  local members = leaving[key] or {}
  members[#members + 1] = member
  leaving[key] = members
  return true
end
for row = 0, count - 1 do
  local at = first + row * 5
  if ARGV[at + 1] ~= '' then -- else its host-wide row is named before
    local key = KEYS[7 + tonumber(ARGV[at])]
    if redis.call('ZSCORE', key, ARGV[at + 1]) then
      leave(key, ARGV[at + 1])
    elseif ARGV[at + 2] == '1' then
      return 'changed'
    end
  end
end
local named = {}
for _, key in ipairs(KEYS) do named[key] = true end
local has_behind = redis.call('EXISTS', KEYS[5]) == 1
local behind, freed = {}, {}
for row = 0, count - 1 do
  local at = first + row * 5
  local parent, target = ARGV[at + 3], ARGV[at + 4]
  if has_behind and parent ~= '' and behind[target] == nil then
    local text = redis.call('HGET', KEYS[5], target)
    behind[target] = text and cjson.decode(text) or false
  end
  if has_behind and parent ~= '' and behind[target] then
    local kept = {}
    for _, one in ipairs(behind[target]) do
      local after = {}
      for name in string.gmatch(one[3], '[^,]+') do
        if name ~= parent then after[#after + 1] = name end
      end
      local node, operation, member = one[1], one[2], one[4]
      local wait = tag .. 'wait:' .. node
      if #after > 0 then
        kept[#kept + 1] = {node, operation, table.concat(after, ','), member}
      elseif not named[wait] then
        return 'changed' -- it came when the document had been read
      elseif redis.call('ZSCORE', wait, member) and leave(wait, member) then -- else it has gone by itself
        freed[#freed + 1] = {node, operation, member}
      end
    end
    behind[target] = kept
  end
end
for _, one in ipairs(freed) do
  local node, operation, member = one[1], one[2], one[3]
  now = now or stamp(KEYS[7])
  redis.call('ZADD', tag .. (operation == '11' and 'fetch:' or 'delay:') .. node, now, member)
  if operation == '3' or operation == '4' or operation == '9' or operation == '10' then
    redis.call('ZADD', tag .. 'wide:' .. node, now, member)
  end
  redis.call('SADD', KEYS[4], node)
end
local over = {}
for target, waiting in pairs(behind) do
  if waiting and #waiting > 0 then
    redis.call('HSET', KEYS[5], target, cjson.encode(waiting))
  elseif waiting then
    over[#over + 1] = target
  end
end
local function all(command, key, names)
  for at = 1, #names, 5000 do redis.call(command, key, unpack(names, at, math.min(at + 4999, #names))) end
end
for key, members in pairs(leaving) do all('ZREM', key, members) end
if has_behind and ARGV[9] == '1' then
  redis.call('DEL', KEYS[5])
else
  all('HDEL', KEYS[5], over)
end
if document == '' then return '' end
local entry = ''
if ARGV[7] ~= '' then entry = append(KEYS[2], ARGV[1], ARGV[2], {'c', ARGV[7]}) end
keep(KEYS[1], document, ARGV[6])
return entry
"""
)
