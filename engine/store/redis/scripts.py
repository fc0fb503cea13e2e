"""What has to happen to tasks in one step in Redis, in Lua.

Each script works on keys of one hash tag. It is called by its digest, and sent whole when a server does not
know that (`Link.run`). Every script can be repeated: a commit whose answer got lost is written again. And
each writes the document last, so that even a script that a cluster broke off (a slot on the move) leaves
nothing that counts twice.

Whose a task is stands in its key while it is at work: ``@CONSUMER ENTRY``. An engine that reads another name
there has been taken for dead, and its results do not count any more.
"""

from __future__ import annotations

from typing import Final

from engine.store.redis.script import Script

JOURNAL: Final = """
local function append(stream, group, consumer, fields)
  local id = redis.call('XADD', stream, '*', unpack(fields))
  redis.call('XCLAIM', stream, group, consumer, 0, id, 'FORCE', 'JUSTID')
  return id
end
local function keep(key, document, ms)
  if ms == '0' then
    redis.call('SET', key, document)
  else
    redis.call('SET', key, document, 'PX', ms)
  end
end
"""

ACCEPT: Final = Script(
    JOURNAL
    + """
-- KEYS stream, index, plans, documents
-- ARGV group, consumer, count of plans, ms, texts of the plans,
--   then per document: id, score, may be known, record
-- A plan comes without its text when it is likely to be there. Answers '?' when it is not: nothing was done.
local group, consumer, plans, ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
for place = 1, plans do
  local key, text = KEYS[2 + place], ARGV[4 + place]
  if text ~= '' then
    redis.call('SET', key, text, 'PX', ms)
  else
    local left = redis.call('PTTL', key)
    if left == -2 then return {'?', {}} end
    if left < ms / 2 then redis.call('PEXPIRE', key, ms) end
  end
end
local fields, index, new, known = {}, {}, {}, {}
local first, at = 3 + plans, 5 + plans
for place = first, #KEYS do
  local old = ARGV[at + 2] == '1' and redis.call('GET', KEYS[place])
  if old then
    known[#known + 1] = place - first
    known[#known + 1] = old
  else
    fields[#fields + 1] = 't'
    fields[#fields + 1] = ARGV[at + 3]
    index[#index + 1] = ARGV[at + 1]
    index[#index + 1] = ARGV[at]
    new[#new + 1] = KEYS[place]
  end
  at = at + 4
end
if #new == 0 then return {'', known} end
local entry = append(KEYS[1], group, consumer, fields)
redis.call('ZADD', KEYS[2], unpack(index))
local stub = '@' .. consumer .. ' ' .. entry
for _, key in ipairs(new) do redis.call('SET', key, stub) end
return {entry, known}
"""
)

SETTLE: Final = Script(
    JOURNAL
    + """
-- KEYS stream, index, due, documents
-- ARGV group, consumer, then per document: id, score, document, ms, callback, due at
-- Answers entries of callbacks, and places of documents that are another's.
local group, consumer = ARGV[1], ARGV[2]
local mine = '@' .. consumer .. ' '
local entries, lost = {}, {}
local at = 3
for place = 4, #KEYS do
  local head = redis.call('GETRANGE', KEYS[place], 0, #mine - 1)
  local entry = ''
  if head == '' or head == mine then
    if head == '' then redis.call('ZADD', KEYS[2], ARGV[at + 1], ARGV[at]) end
    if ARGV[at + 5] ~= '' then redis.call('ZADD', KEYS[3], ARGV[at + 5], ARGV[at]) end
    if ARGV[at + 4] ~= '' then entry = append(KEYS[1], group, consumer, {'c', ARGV[at + 4]}) end
    keep(KEYS[place], ARGV[at + 2], ARGV[at + 3])
  elseif string.sub(head, 1, 1) == '@' then
    lost[#lost + 1] = place - 4
  end
  entries[#entries + 1] = entry
  at = at + 6
end
return {entries, lost}
"""
)

STAMP: Final = """
local function stamp(key)
  -- UNIX time, as text: the server's, and later than any that was given before, whatever server that was
  local time = redis.call('TIME')
  local last = tonumber(redis.call('GET', key) or '0')
  local now = string.format('%.6f', math.max(time[1] + time[2] / 1000000, last + 0.000001))
  redis.call('SET', key, now)
  return now
end
"""

MOMENT: Final = Script(
    STAMP
    + """
-- KEYS clock. Rows that come after this bear a later time.
return stamp(KEYS[1])
"""
)

WHO: Final = """
local function who()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end
"""

HAND_OVER: Final = Script(
    JOURNAL
    + STAMP
    + """
-- KEYS document, stream, index, due, delayed, behind, clock, queues
-- ARGV group, consumer, id, score, document, ms, callback, due at,
--   count, then per row: queue, score (empty: now), member; count, nodes;
--   count, then per target: target, rows behind
-- Answers an entry, 'lost', or 'there' when this was done before. Without a document only rows are added.
local group, consumer, id, document = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
if document ~= '' then
  local mine = '@' .. consumer .. ' '
  local head = redis.call('GETRANGE', KEYS[1], 0, #mine - 1)
  if head ~= '' and head ~= mine then
    return string.sub(head, 1, 1) == '@' and 'lost' or 'there'
  end
end
local at, now = 9, stamp(KEYS[7])
for _ = 1, tonumber(ARGV[at]) do
  local score = ARGV[at + 2] ~= '' and ARGV[at + 2] or now
  redis.call('ZADD', KEYS[7 + tonumber(ARGV[at + 1])], score, ARGV[at + 3])
  at = at + 3
end
at = at + 1
for _ = 1, tonumber(ARGV[at]) do
  redis.call('SADD', KEYS[5], ARGV[at + 1])
  at = at + 1
end
at = at + 1
for _ = 1, tonumber(ARGV[at]) do
  redis.call('HSET', KEYS[6], ARGV[at + 1], ARGV[at + 2])
  at = at + 2
end
if document == '' then return '' end
redis.call('ZADD', KEYS[3], ARGV[4], id)
if ARGV[8] ~= '' then redis.call('ZADD', KEYS[4], ARGV[8], id) end
local entry = ''
if ARGV[7] ~= '' then entry = append(KEYS[2], group, consumer, {'c', ARGV[7]}) end
keep(KEYS[1], document, ARGV[6])
return entry
"""
)

CALLBACK: Final = Script(
    JOURNAL
    + """
-- KEYS stream; ARGV group, consumer, callbacks
local entries = {}
for place = 3, #ARGV do entries[#entries + 1] = append(KEYS[1], ARGV[1], ARGV[2], {'c', ARGV[place]}) end
return entries
"""
)

PROGRESS: Final = Script(
    """
-- KEYS documents; ARGV consumer, progress of each. Answers places of those that are another's.
local mine = '@' .. ARGV[1] .. ' '
local lost = {}
for place, key in ipairs(KEYS) do
  local old = redis.call('GET', key)
  if old and string.sub(old, 1, #mine) == mine then
    local entry = string.match(old, '^(@%S+ %S+)')
    redis.call('SET', key, entry .. ' ' .. ARGV[place + 1])
  elseif old and string.sub(old, 1, 1) == '@' then
    lost[#lost + 1] = place - 1
  end
end
return lost
"""
)

ACK: Final = Script(
    """
-- KEYS stream; ARGV group, consumer, entries. Those that have been taken over stay.
local over = 0
for place = 3, #ARGV do
  local id = ARGV[place]
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) == 1 then
    redis.call('XACK', KEYS[1], ARGV[1], id)
    over = over + redis.call('XDEL', KEYS[1], id)
  end
end
return over
"""
)

FORGET: Final = Script(
    """
-- KEYS index, documents; ARGV highest score, then per document: id, digest of what was read (empty: nothing)
-- Takes out what is still as it was read: the id may be a new task's by now. Answers how many.
local gone, at = 0, 2
for place = 2, #KEYS do
  local now = redis.call('GET', KEYS[place])
  local score = redis.call('ZSCORE', KEYS[1], ARGV[at])
  local is_old = score and tonumber(score) <= tonumber(ARGV[1])
  if is_old and (now and redis.sha1hex(now) or '') == ARGV[at + 1] then
    redis.call('DEL', KEYS[place])
    redis.call('ZREM', KEYS[1], ARGV[at])
    gone = gone + 1
  end
  at = at + 2
end
return gone
"""
)

CLEAN: Final = Script(
    """
-- KEYS delayed, queues of a node; ARGV node. The set holds a node as long as it has rows.
for place = 2, #KEYS do
  if redis.call('EXISTS', KEYS[place]) == 1 then return 0 end
end
return redis.call('SREM', KEYS[1], ARGV[1])
"""
)

SEE: Final = Script(
    """
-- KEYS seen; ARGV per node: c(onfigured), g(one) or f(orgotten), node, layer
-- A node's value is the server's time, c or g, and its layer. One that is gone is so from the first time on.
local now = redis.call('TIME')[1]
for at = 1, #ARGV, 3 do
  local how, node, layer = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local state, known = string.match(redis.call('HGET', KEYS[1], node) or '', '^%S+ (%S) (.*)$')
  if how == 'c' then
    redis.call('HSET', KEYS[1], node, now .. ' c ' .. layer)
  elseif how == 'f' then
    redis.call('HSET', KEYS[1], node, '0 g ' .. (known or layer))
  elseif state ~= 'g' then
    redis.call('HSET', KEYS[1], node, now .. ' g ' .. (known or layer))
  end
end
return 1
"""
)

BEHIND: Final = Script(
    """
-- KEYS index; ARGV score, id, count. Answers ids and scores behind that id, in the order of a listing: by
-- score, and of one score by id, the greatest first. The id itself may have gone.
local index, score = KEYS[1], ARGV[1]
local function is_less(one, other) -- by bytes, as a sorted set does; a server's locale may compare otherwise
  for at = 1, math.min(#one, #other) do
    local a, b = string.byte(one, at), string.byte(other, at)
    if a ~= b then return a < b end
  end
  return #one < #other
end
local first = redis.call('ZCOUNT', index, '(' .. score, '+inf')
local last = first + redis.call('ZCOUNT', index, score, score)
while first < last do
  local middle = math.floor((first + last) / 2)
  if is_less(redis.call('ZREVRANGE', index, middle, middle)[1], ARGV[2]) then
    last = middle
  else
    first = middle + 1
  end
end
return redis.call('ZREVRANGE', index, first, first + ARGV[3] - 1, 'WITHSCORES')
"""
)

SEEN: Final = Script(
    """
-- KEYS seen. Answers the server's time, then per node its name, and when it was seen.
local found = redis.call('HGETALL', KEYS[1])
table.insert(found, 1, redis.call('TIME')[1])
return found
"""
)
