"""What has to happen in one step between the engines of one Redis, in Lua: see `members`."""

from __future__ import annotations

from typing import Final

from engine.store.redis.script import Script

TAKE: Final = Script(
    """
-- KEYS stream, documents of an entry's tasks; ARGV group, consumer, the one that it is taken from, entry
-- Answers nothing when that one has it no more; else per task its progress, or '{' when it has settled.
local dead, entry = ARGV[3], ARGV[4]
if #redis.call('XPENDING', KEYS[1], ARGV[1], entry, entry, 1, dead) == 0 then return false end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, entry, 'JUSTID')
local theirs, ours = '@' .. dead .. ' ' .. entry, '@' .. ARGV[2] .. ' ' .. entry
local found = {}
for place = 2, #KEYS do
  local old = redis.call('GET', KEYS[place])
  if not old then
    redis.call('SET', KEYS[place], ours)
    found[#found + 1] = ''
  elseif string.sub(old, 1, #theirs) == theirs or string.sub(old, 1, #ours) == ours then
    local head = string.match(old, '^@%S+ %S+')
    local progress = string.sub(old, #head + 2)
    redis.call('SET', KEYS[place], ours .. string.sub(old, #head + 1))
    found[#found + 1] = progress
  else
    found[#found + 1] = '{'
  end
end
return found
"""
)

GONE: Final = Script(
    """
-- KEYS stream; ARGV group, entry. Nobody has an entry that is not in the stream any more; it may have been
-- looked for on a server that was no master any more.
if #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) > 0 then return 0 end
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
"""
)

DEPOSE: Final = Script(
    """
-- KEYS leader; ARGV consumer. One that is dead leads no more.
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
)

BURY: Final = Script(
    """
-- KEYS stream; ARGV group, consumer. Removes a consumer that has nothing left.
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
)

BEAT: Final = Script(
    """
-- KEYS beat, engines, leader, fence, beats of others; ARGV consumer, about it, ms, prefix of beats, may lead
-- Answers the leader, its number, the time, what was known of this engine, and of every engine: name, what it
-- says, whether it lives.
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
local before = redis.call('HGET', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local leader = redis.call('GET', KEYS[3])
if ARGV[5] == '1' then
  if not leader then
    redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[3])
    redis.call('INCR', KEYS[4])
    leader = ARGV[1]
  elseif leader == ARGV[1] then
    redis.call('PEXPIRE', KEYS[3], ARGV[3])
  end
end
local time = redis.call('TIME')
local found = {leader or '', redis.call('GET', KEYS[4]) or '0', time[1], time[2], before or ''}
local engines = redis.call('HGETALL', KEYS[2])
for place = 1, #engines, 2 do
  found[#found + 1] = engines[place]
  found[#found + 1] = engines[place + 1]
  found[#found + 1] = redis.call('EXISTS', ARGV[4] .. engines[place])
end
return found
"""
)

LEAVE: Final = Script(
    """
-- KEYS beat, leader, engines; ARGV consumer, prefix of inboxes, ms
redis.call('DEL', KEYS[1])
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
local names = redis.call('HKEYS', KEYS[3])
for _, name in ipairs(names) do
  if name ~= ARGV[1] then
    redis.call('RPUSH', ARGV[2] .. name, 'look')
    redis.call('PEXPIRE', ARGV[2] .. name, ARGV[3])
  end
end
return #names
"""
)

FENCE: Final = Script(
    """
-- KEYS fence; ARGV number. Answers whether no later leader has been here.
local newest = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) < newest then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""
)

GROW: Final = Script(
    """
-- KEYS leader, fence; ARGV consumer, number. Has the one that leads go past a number.
-- Answers the one that it has then; 0: another leads.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local number = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[2]) + 1)
redis.call('SET', KEYS[2], number)
return number
"""
)

LOCK: Final = Script(
    """
-- KEYS lock; ARGV token, ms, whom it may be taken from. Takes it, or keeps it; answers who else has it.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
"""
)

UNLOCK: Final = Script(
    """
-- KEYS lock; ARGV token
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
)
