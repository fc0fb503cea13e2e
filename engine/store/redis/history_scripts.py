"""Lua scripts of the history; see `history` for the keys, and `scripts`."""

from __future__ import annotations

from typing import Final

from engine.store.redis.script import Script

TAKE: Final = Script(
    """
-- KEYS settled, packing, count, by; ARGV who, ms. Answers the records that are to be packed.
-- What somebody took and did not pack comes first; the rest has its turn later.
if redis.call('EXISTS', KEYS[2]) == 0 then
  if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('DEL', KEYS[3])
end
redis.call('SET', KEYS[4], ARGV[1], 'PX', ARGV[2])
return redis.call('LRANGE', KEYS[2], 0, -1)
"""
)

_DROP: Final = """
local function drop(tag, blocks, kept, sizes, ms, most)
  -- Drops the oldest blocks: those older than so many milliseconds, and those beyond so many bytes. Before
  -- something is gone none of its commands needs memory: it works where Redis is full.
  local time = redis.call('TIME')
  local before = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ms)
  local total, dropped, lost = 0, 0, 0
  for _, size in ipairs(redis.call('HVALS', sizes)) do total = total + tonumber(size) end
  while dropped < 100 do
    local oldest = redis.call('ZRANGE', kept, 0, 0, 'WITHSCORES')
    if #oldest == 0 or (tonumber(oldest[2]) >= before and total <= tonumber(most)) then break end
    total = total - tonumber(redis.call('HGET', sizes, oldest[1]) or '0')
    lost = math.max(lost, tonumber(redis.call('ZSCORE', blocks, oldest[1]) or '0'))
    redis.call('DEL', tag .. 'block:' .. oldest[1])
    redis.call('HDEL', sizes, oldest[1])
    redis.call('ZREM', blocks, oldest[1])
    redis.call('ZREM', kept, oldest[1])
    dropped = dropped + 1
  end
  if lost > tonumber(redis.call('GET', tag .. 'blocks:since') or '0') then
    redis.call('SET', tag .. 'blocks:since', string.format('%.17g', lost), 'PX', ms)
  end
  return dropped
end
"""

BLOCK: Final = Script(
    _DROP
    + """
-- KEYS packing, by, blocks, kept, sizes, last; ARGV tag, who, newest task, size, ms, most bytes, fields
-- Writes a block in place of the records that it is made of, if nobody else has taken them meanwhile.
local tag = ARGV[1]
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
drop(tag, KEYS[3], KEYS[4], KEYS[5], ARGV[5], math.max(0, tonumber(ARGV[6]) - tonumber(ARGV[4])))
local number = redis.call('INCR', KEYS[6])
local fields = {}
for at = 7, #ARGV do fields[#fields + 1] = ARGV[at] end
redis.call('HSET', tag .. 'block:' .. number, unpack(fields))
redis.call('HSET', KEYS[5], number, ARGV[4])
redis.call('ZADD', KEYS[3], ARGV[3], number)
local time = redis.call('TIME')
redis.call('ZADD', KEYS[4], time[1] * 1000 + math.floor(time[2] / 1000), number)
redis.call('DEL', KEYS[1], KEYS[2])
return number
"""
)

LOSE: Final = Script(
    """
-- KEYS packing, by, since, count; ARGV who, when, ms, most. Lets go the records that who took and cannot
-- pack, when more than most are behind them; answers whether it did: nobody else may have taken them since.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if tonumber(redis.call('GET', KEYS[4]) or '0') < tonumber(ARGV[4]) then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
if tonumber(ARGV[2]) > tonumber(redis.call('GET', KEYS[3]) or '0') then
  redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
end
return 1
"""
)

DROP: Final = Script(
    _DROP
    + """
-- KEYS blocks, kept, sizes; ARGV tag, ms, most bytes. Answers how many blocks were dropped.
return drop(ARGV[1], KEYS[1], KEYS[2], KEYS[3], ARGV[2], ARGV[3])
"""
)

HEADS: Final = Script(
    """
-- KEYS blocks
-- ARGV block before (empty: none) and its newest task, count, tag, since, until, actions, states, who,
--   anybody, node, takes wide, packed, count of hosts, hosts, targets
-- Looks at some blocks, newest first. Answers the last one that was looked at (empty: there is no more) and
-- its newest task, and of each that may have what is wanted its number, newest task, starts and patterns.
local first = 0
if ARGV[1] ~= '' then
  local rank = redis.call('ZREVRANK', KEYS[1], ARGV[1])
  if rank then
    first = rank + 1
  else -- It was dropped meanwhile: those behind it begin where it was.
    first = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[2], '+inf')
    for _, number in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[2])) do
      if number > ARGV[1] then first = first + 1 end
    end
  end
end
local count, tag, since, till = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local actions, states, who = tonumber(ARGV[7]), tonumber(ARGV[8]), cjson.decode(ARGV[9])
local anybody, node = ARGV[10], ARGV[11]
local facts = {'first_at', 'last_at', 'actions', 'states', 'who', 'nodes', 'starts', 'patterns'}
local wide, packed, hosts = ARGV[12] == '1', tonumber(ARGV[13]), tonumber(ARGV[14])
local function has_one(text, from, to)
  if from > to then return true end
  for at = from, to do
    if string.find(text, ARGV[at], 1, true) then return true end
  end
  return false
end
local function has_all(list, names)
  local set = {}
  for _, name in ipairs(cjson.decode(list)) do set[name] = true end
  for _, name in ipairs(names) do
    if not set[name] and not set[anybody] then return false end
  end
  return true
end
local function is_late(number)
  return packed < math.huge and tonumber(redis.call('ZSCORE', KEYS[1] .. ':kept', number) or '0') >= packed
end
local numbers = redis.call('ZREVRANGE', KEYS[1], first, first + count - 1)
local found = {'', ''}
if #numbers == count then
  found = {numbers[count], redis.call('ZSCORE', KEYS[1], numbers[count])}
end
for _, number in ipairs(numbers) do
  local key = tag .. 'block:' .. number
  local head = redis.call('HMGET', key, unpack(facts))
  local fits = head[1] and tonumber(head[1]) <= till
  fits = fits and (tonumber(head[2]) >= since or is_late(number))
  fits = fits and (actions == 0 or bit.band(actions, tonumber(head[3])) ~= 0)
  fits = fits and (states == 0 or bit.band(states, tonumber(head[4])) ~= 0)
  fits = fits and has_all(head[5], who) and (node == '' or has_all(head[6], {node}))
  fits = fits and (hosts == 0 or has_one(redis.call('HGET', key, 'hosts'), 15, 14 + hosts))
  if fits and not (wide and (head[7] ~= '' or head[8] ~= '[]')) and #ARGV > 14 + hosts then
    fits = has_one(redis.call('HGET', key, 'hashes'), 15 + hosts, #ARGV)
  end
  if fits then found[#found + 1] = {number, head[2], head[7], head[8]} end
end
return found
"""
)
