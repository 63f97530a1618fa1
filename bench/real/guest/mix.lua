-- Lua that a tracing JIT compiler has to compile: numeric loops, tables, strings, closures.
local function sieve(limit)
  local composite, primes = {}, 0
  for i = 2, limit do
    if not composite[i] then
      primes = primes + 1
      for j = i * i, limit, i do composite[j] = true end
    end
  end
  return primes
end

local function spectral(n)
  local function a(i, j) local ij = i + j; return 1 / (ij * (ij + 1) / 2 + i + 1) end
  local u, v = {}, {}
  for i = 0, n - 1 do u[i] = 1 end
  for _ = 1, 4 do
    for i = 0, n - 1 do local s = 0; for j = 0, n - 1 do s = s + a(i, j) * u[j] end; v[i] = s end
    for i = 0, n - 1 do local s = 0; for j = 0, n - 1 do s = s + a(j, i) * v[j] end; u[i] = s end
  end
  local top, bottom = 0, 0
  for i = 0, n - 1 do top = top + u[i] * v[i]; bottom = bottom + v[i] * v[i] end
  return top / bottom
end

local function words(count)
  local state, counts, different = 7, {}, 0
  for _ = 1, count do
    state = (state * 16807) % 2147483647
    local word = 'w' .. state % 5003
    if not counts[word] then different = different + 1 end
    counts[word] = (counts[word] or 0) + 1
  end
  return different, counts.w17
end

print(sieve(4000000), string.format('%.9f', spectral(600)), words(800000))
