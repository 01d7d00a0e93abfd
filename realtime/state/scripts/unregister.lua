-- Removes sessions from every index, with what they use. Unknown ones are passed over.
-- ARGV[2...] sids
local now, lines = now_ms(), {}
for i = 2, #ARGV do
  local record = session_record(ARGV[i])
  if record then
    forget(ARGV[i], record)
    forget_usage(ARGV[i], now, lines)
  end
end
announce(presence_lines(lines))
return 'ok'
