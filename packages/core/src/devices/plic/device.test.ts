import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertStrict, read32, transplant, write32 } from '../testing.ts';
import { Plic } from './device.ts';

const HARTS = 2;
const CONTEXT_0S = 1;

function setUp() {
  const lines = new Map<string, boolean>();
  const plic = new Plic({ harts: HARTS, setExternal: (hart, mode, level) => lines.set(`${hart}${mode}`, level) });
  const enable = (context: number, source: number) => {
    const offset = 0x2000 + 0x80 * context + 4 * (source >> 5);
    write32(plic, offset, read32(plic, offset) | (1 << (source & 31)));
  };
  return {
    plic,
    line: (name: string) => lines.get(name) ?? false,
    enable,
    priority: (source: number, value: number) => write32(plic, 4 * source, value),
    threshold: (context: number, value: number) => write32(plic, 0x20_0000 + 0x1000 * context, value),
    claim: (context: number) => read32(plic, 0x20_0004 + 0x1000 * context),
    complete: (context: number, source: number) => write32(plic, 0x20_0004 + 0x1000 * context, source),
  };
}

test('plic: each report of a high level makes a request, which waits while the one before is served', () => {
  const { plic, line, enable, priority, claim, complete } = setUp();
  priority(10, 1);
  enable(CONTEXT_0S, 10);
  plic.setLevel(10, true);
  assert.equal(line('0S'), true);
  assert.equal(line('0M'), false);
  assert.equal(line('1S'), false);
  assert.equal(read32(plic, 0x1000), 1 << 10);
  assert.equal(claim(CONTEXT_0S), 10);
  assert.equal(line('0S'), false);
  assert.equal(claim(CONTEXT_0S), 0);
  plic.setLevel(10, false);
  plic.setLevel(10, true);
  plic.setLevel(10, true);
  assert.equal(line('0S'), false);
  assert.equal(read32(plic, 0x1000), 1 << 10);
  complete(CONTEXT_0S, 10);
  assert.equal(line('0S'), true);
  assert.equal(claim(CONTEXT_0S), 10);
  // Nothing is reported now: a level that merely stays high makes no request.
  complete(CONTEXT_0S, 10);
  assert.equal(line('0S'), false);
  assert.equal(claim(CONTEXT_0S), 0);
});

test('plic: a request survives the fall of its level, also during a service, until it is claimed', () => {
  const { plic, line, enable, priority, claim, complete } = setUp();
  priority(5, 1);
  enable(0, 5);
  plic.setLevel(5, true);
  plic.setLevel(5, false);
  assert.equal(line('0M'), true);
  assert.equal(claim(0), 5);
  plic.setLevel(5, true);
  plic.setLevel(5, false);
  complete(0, 5);
  assert.equal(claim(0), 5);
});

test('plic: priorities decide, then the lower number; the threshold masks lines but not claims', () => {
  const { plic, line, enable, priority, claim, threshold } = setUp();
  for (const [source, value] of [
    [3, 2],
    [40, 5],
    [95, 5],
  ] as const) {
    priority(source, value);
    enable(3, source);
    plic.setLevel(source, true);
  }
  assert.equal(read32(plic, 0x1008), 0x8000_0000);
  threshold(3, 5);
  assert.equal(line('1S'), false);
  threshold(3, 4);
  assert.equal(line('1S'), true);
  threshold(3, 7);
  assert.equal(claim(3), 40);
  assert.equal(claim(3), 95);
  assert.equal(claim(3), 3);
  assert.equal(claim(3), 0);
});

test('plic: both harts see a request and one gets it', () => {
  const { plic, line, enable, priority, claim } = setUp();
  priority(1, 7);
  enable(1, 1);
  enable(3, 1);
  plic.setLevel(1, true);
  assert.deepEqual([line('0S'), line('1S')], [true, true]);
  assert.equal(claim(3), 1);
  assert.deepEqual([line('0S'), line('1S')], [false, false]);
  assert.equal(claim(1), 0);
});

test('plic: priority 0 never interrupts; registers have only the bits that exist', () => {
  const { plic, line, enable, priority, threshold } = setUp();
  enable(0, 9);
  plic.setLevel(9, true);
  assert.equal(line('0M'), false);
  priority(9, 0xffff_ffff);
  assert.equal(read32(plic, 4 * 9), 7);
  write32(plic, 0, 7);
  assert.equal(read32(plic, 0), 0);
  threshold(0, 0xffff_fff1);
  assert.equal(read32(plic, 0x20_0000), 1);
  write32(plic, 0x2000, 0xffff_ffff);
  assert.equal(read32(plic, 0x2000), 0xffff_fffe);
  write32(plic, 0x200c, 0xffff_ffff);
  assert.equal(read32(plic, 0x200c), 0);
  write32(plic, 0x1000, 0);
  assert.equal(read32(plic, 0x1000), 1 << 9);
});

test('plic: any context completes a service, and nonsense is ignored', () => {
  const { plic, line, enable, priority, claim, complete } = setUp();
  priority(2, 1);
  enable(0, 2);
  plic.setLevel(2, true);
  assert.equal(claim(0), 2);
  plic.setLevel(2, true);
  for (const source of [0, 96, 0xffff_ffff]) complete(0, source);
  assert.equal(line('0M'), false);
  complete(1, 2);
  assert.equal(line('0M'), true);
});

test('plic: contexts of harts that do not exist read zero; other sizes are not registers', () => {
  const { plic } = setUp();
  write32(plic, 0x2000 + 0x80 * 4, 0xffff_ffff);
  assert.equal(read32(plic, 0x2000 + 0x80 * 4), 0);
  write32(plic, 0x20_0000 + 0x1000 * 4, 7);
  assert.equal(read32(plic, 0x20_0000 + 0x1000 * 4), 0);
  plic.write(4, 1, 7);
  assert.equal(read32(plic, 4), 0);
  assert.throws(() => plic.setLevel(0, true), RangeError);
});

test('plic: save and restore at any moment continue alike; reset forgets everything', () => {
  const { plic, enable, priority, claim } = setUp();
  for (const source of [7, 33, 64]) {
    priority(source, 3);
    enable(2, source);
    plic.setLevel(source, true);
  }
  assert.equal(claim(2), 7);
  plic.setLevel(7, true);
  const other = setUp();
  transplant(plic, other.plic);
  assert.equal(other.line('1M'), true);
  assert.equal(other.claim(2), 33);
  other.complete(2, 7);
  assert.equal(other.claim(2), 7);
  other.plic.reset();
  assert.equal(other.line('1M'), false);
  assert.deepEqual(other.plic.save(), setUp().plic.save());
});

test('plic: in a record of the first version a level that is high makes a request after its service', () => {
  const { plic, enable, priority, claim } = setUp();
  for (const source of [7, 33, 64]) {
    priority(source, 3);
    enable(2, source);
    plic.setLevel(source, true);
    assert.equal(claim(2), source);
  }
  const other = setUp();
  other.plic.restore({ ...plic.save(), version: 1, levels: [1 << 7, 0, 1] });
  for (const source of [7, 33, 64]) other.complete(2, source);
  assert.equal(other.claim(2), 7);
  assert.equal(other.claim(2), 64);
  assert.equal(other.claim(2), 0);
});

test('plic: a damaged record is refused', () => {
  const { plic } = setUp();
  plic.setLevel(7, true);
  assertStrict(plic);
  assert.throws(() => plic.restore({ ...plic.save(), pending: [1, 0, 0] }), /plic\.pending\[0\]: source 0/);
});
