// JavaScript that a JIT compiler has to compile: hot loops over numbers, typed arrays, objects of a few shapes, closures.

function sieve(limit) {
  const composite = new Uint8Array(limit);
  let primes = 0;
  for (let i = 2; i < limit; i++) {
    if (composite[i]) continue;
    primes++;
    for (let j = i * i; j < limit; j += i) composite[j] = 1;
  }
  return primes;
}

class Vector {
  constructor(x, y, z) {
    this.x = x;
    this.y = y;
    this.z = z;
  }
  cross(other) {
    return new Vector(
      this.y * other.z - this.z * other.y,
      this.z * other.x - this.x * other.z,
      this.x * other.y - this.y * other.x,
    );
  }
  plus(other) {
    return new Vector(this.x + other.x, this.y + other.y, this.z + other.z);
  }
}

function vectors(rounds) {
  let a = new Vector(1, 0.5, 0.25);
  const b = new Vector(0.001, 0.002, -0.001);
  for (let i = 0; i < rounds; i++) a = a.plus(a.cross(b));
  return a.x.toFixed(6);
}

function life(size, generations) {
  let now = new Int32Array(size * size).map((_, i) => ((i * 2654435761) >>> 13) & 1);
  for (let g = 0; g < generations; g++) {
    const next = new Int32Array(size * size);
    for (let y = 1; y < size - 1; y++) {
      for (let x = 1; x < size - 1; x++) {
        const at = y * size + x;
        const above = at - size;
        const below = at + size;
        const sum =
          now[above - 1] +
          now[above] +
          now[above + 1] +
          now[at - 1] +
          now[at + 1] +
          now[below - 1] +
          now[below] +
          now[below + 1];
        next[at] = sum === 3 || (sum === 2 && now[at] === 1) ? 1 : 0;
      }
    }
    now = next;
  }
  return now.reduce((sum, cell) => sum + cell, 0);
}

function words(count) {
  const counts = new Map();
  let state = 7;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const word = `w${state >>> 19}`;
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const sorted = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  return JSON.stringify(sorted.slice(0, 5));
}

console.log(sieve(1_000_000), vectors(400_000), life(200, 25), words(60_000));
