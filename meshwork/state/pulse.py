"""Time during which Redis served nobody does not count against leases.

While Redis hangs, restarts or fails over, no replica can renew; when it is back, its clock says that
every lease has lapsed, though nobody died. So each reading of the leases (each router reads twice a
second) leaves its time behind, and one that finds the last to be older than `SILENCE_MS` first gives
every lease at least `GRACE_MS` more, in the same script: no reader ever sees the mesh as dead because
Redis was. A replica that did die meanwhile stays listed as much longer; gateway and clients eject it.
"""

SILENCE_MS = 2000
GRACE_MS = 6000

# Lua, put before what reads or removes lapsed leases. KEYS[2]: lease_expiry. KEYS[4]: lease_serial.
# KEYS[6]: lease_pulse. ARGV[1]: the channel of changes. LOG: how many changes are remembered; a jump of
# the serial beyond them makes readers that took a lapsed lease for gone read all anew.
PULSE = f"""
local seen = tonumber(redis.call('GET', KEYS[6]) or '') or now
redis.call('SET', KEYS[6], now)
if now - seen > {SILENCE_MS} then
  if redis.call('ZCOUNT', KEYS[2], '-inf', now) > 0 then
    redis.call('INCRBY', KEYS[4], LOG + 1)
    redis.call('PUBLISH', ARGV[1], '')
  end
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now + {GRACE_MS})) do
    redis.call('ZADD', KEYS[2], now + {GRACE_MS}, name)
  end
end
"""
