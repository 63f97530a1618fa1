import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertStrict, read32, transplant, write32 } from '../testing.ts';
import { Clint } from './device.ts';
import { NEVER } from './state.ts';

function setUp() {
  const clock = { now: 0n, offset: 0n };
  const software = [false, false];
  const timer = [false, false];
  const ticks = () => BigInt.asUintN(64, clock.now / 100n + clock.offset);
  const clint = new Clint({
    harts: 2,
    now: () => clock.now,
    ticks,
    setTime: (value) => {
      clock.offset = value - clock.now / 100n;
    },
    setSoftware: (hart, level) => {
      software[hart] = level;
    },
    setTimer: (hart, level) => {
      timer[hart] = level;
    },
  });
  return { clint, clock, software, timer, ticks };
}

test('clint: msip drives the software interrupt of its hart', () => {
  const { clint, software } = setUp();
  write32(clint, 4, 0xffff_ffff);
  assert.deepEqual(software, [false, true]);
  assert.equal(read32(clint, 4), 1);
  write32(clint, 4, 0xffff_fffe);
  assert.deepEqual(software, [false, false]);
  write32(clint, 8, 1);
  assert.equal(read32(clint, 8), 0);
});

test('clint: mtimecmp is all ones at first, has two halves, and gives the deadline in guest nanoseconds', () => {
  const { clint, clock, timer } = setUp();
  assert.equal(clint.compare(0), NEVER);
  assert.equal(clint.deadline(), undefined);
  write32(clint, 0x4008, 50);
  write32(clint, 0x400c, 0);
  assert.equal(clint.compare(1), 50n);
  assert.equal(clint.deadline(), 5000n);
  clock.now = 4999n;
  clint.advance(clock.now);
  assert.deepEqual(timer, [false, false]);
  clock.now = 5000n;
  clint.advance(clock.now);
  assert.deepEqual(timer, [false, true]);
  assert.equal(clint.deadline(), undefined);
  write32(clint, 0x400c, 1);
  assert.deepEqual(timer, [false, false]);
  assert.equal(read32(clint, 0x400c), 1);
  assert.equal(read32(clint, 0x4008), 50);
});

test('clint: mtime is readable and writable by halves, and deadlines follow it', () => {
  const { clint, clock, ticks, timer } = setUp();
  clock.now = 12_345n;
  assert.equal(read32(clint, 0xbff8), 123);
  write32(clint, 0xbffc, 2);
  assert.equal(ticks(), (2n << 32n) + 123n);
  assert.equal(read32(clint, 0xbffc), 2);
  clint.setCompare(0, (2n << 32n) + 133n);
  assert.equal(clint.deadline(), 13_300n);
  clock.now = 13_300n;
  clint.advance(clock.now);
  assert.equal(timer[0], true);
  write32(clint, 0xbff8, 0);
  assert.equal(timer[0], false);
});

test('clint: a time close to its end wraps and takes the interrupts back', () => {
  const { clint, clock, timer } = setUp();
  write32(clint, 0xbffc, 0xffff_ffff);
  write32(clint, 0xbff8, 0xffff_fff0);
  clint.setCompare(0, 5n);
  assert.equal(timer[0], true);
  // Hart 1 waits for the very last tick.
  assert.equal(clint.deadline(), 1500n);
  clock.now = 1500n;
  assert.equal(clint.deadline(), 1600n);
  clock.now = 1600n;
  clint.advance(clock.now);
  assert.equal(timer[0], false);
  assert.equal(clint.deadline(), 2100n);
});

test('clint: other sizes, gaps and harts that do not exist', () => {
  const { clint } = setUp();
  const before = clint.save();
  for (const offset of [8, 0x4010, 0x8000, 0xbff0]) {
    write32(clint, offset, 1);
    assert.equal(read32(clint, offset), 0);
  }
  clint.write(0x4000, 1, 1);
  assert.equal(clint.read(0x4000, 1), 0);
  assert.deepEqual(clint.save(), before);
  assert.throws(() => clint.compare(2), RangeError);
});

test('clint: save, restore, reset', () => {
  const { clint, clock } = setUp();
  write32(clint, 0, 1);
  clint.setCompare(1, 7n);
  clock.now = 700n;
  const other = setUp();
  other.clock.now = 700n;
  transplant(clint, other.clint);
  assert.deepEqual(other.software, [true, false]);
  assert.deepEqual(other.timer, [false, true]);
  other.clint.reset();
  assert.deepEqual(other.software, [false, false]);
  assert.deepEqual(other.timer, [false, false]);
});

test('clint: a damaged record is refused', () => {
  const { clint } = setUp();
  assertStrict(clint);
  assert.throws(() => clint.restore({ ...clint.save(), compare: [1n] }), /clint\.compare/);
});
