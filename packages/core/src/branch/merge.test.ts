/** Three-way merging as such, and of disks and maps of real machines. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { MemoryBackend } from '../devices/virtio-block/backend.ts';
import { FrameBlocks } from '../disk/frame-blocks.ts';
import { OverlayBackend } from '../disk/overlay.ts';
import { Engine } from '../engine/engine.ts';
import { stateHash } from '../machine/hash.ts';
import type { Machine } from '../machine/machine.ts';
import { recordMachine } from '../machine/save.ts';
import { PAGE, RAM_BASE } from '../memory/layout.ts';
import { Pool, PoolFullError } from '../memory/pool.ts';
import { bareMachine, runs, SEED } from '../testing/machines.ts';
import { diffMaps, diffRegisters } from './diff.ts';
import { type ForkPoint, forkPoint, freeForkPoint, machineFrom, shareForkPoint } from './fork-point.ts';
import { differingRanges, judge, mergeBytes } from './merge.ts';
import { mergeDisk } from './merge-disk.ts';

const side = fc
  .array(fc.integer({ min: 0, max: 2 }), { minLength: 24, maxLength: 24 })
  .map((all) => Uint8Array.from(all));
const grain = fc.record({ unit: fc.constantFrom(1, 2, 4, 8), phase: fc.nat(7) });

describe(`three sides (seed ${SEED})`, () => {
  test('an item: who has changed it decides, and the sides are told apart only where they differ', () => {
    fc.assert(
      fc.property(fc.nat(3), fc.nat(3), fc.nat(3), (base, ours, theirs) => {
        const verdict = judge(base, ours, theirs);
        const mirrored = judge(base, theirs, ours);
        const mirror = {
          unchanged: 'unchanged',
          same: 'same',
          conflict: 'conflict',
          kept: 'taken',
          taken: 'kept',
        } as const;
        assert.equal(mirrored, mirror[verdict]);
        assert.equal(verdict === 'unchanged', base === ours && base === theirs);
        assert.equal(verdict === 'conflict', new Set([base, ours, theirs]).size === 3);
      }),
      runs(200),
    );
  });

  test('bytes: no change of either side is lost, units are whole, and a conflict changes nothing', () => {
    fc.assert(
      fc.property(side, side, side, grain, (base, ours, theirs, { unit, phase }) => {
        const { verdict, bytes, conflicts } = mergeBytes(base, ours, theirs, { unit, phase });
        const mirrored = mergeBytes(base, theirs, ours, { unit, phase });
        assert.deepEqual(mirrored.conflicts, conflicts);
        assert.equal(verdict === 'conflict', conflicts.length > 0);
        if (verdict === 'conflict') {
          assert.deepEqual(bytes, ours);
          return;
        }
        assert.deepEqual(mirrored.bytes, bytes);
        for (let at = 0; at < base.length; at++) {
          // Where a side has changed a byte, its whole unit is that side's.
          const from = Math.max(0, at - ((at + phase) % unit));
          const to = Math.min(base.length, at + unit - ((at + phase) % unit));
          for (const one of [ours, theirs])
            if (one[at] !== base[at]) assert.deepEqual(bytes.slice(from, to), one.slice(from, to));
          if (ours[at] === base[at] && theirs[at] === base[at]) assert.equal(bytes[at], base[at]);
        }
        const equal = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
        assert.equal(verdict === 'unchanged', equal(ours, base) && equal(theirs, base));
        if (verdict === 'taken') assert.ok(equal(bytes, theirs));
        if (verdict === 'kept' || verdict === 'same') assert.ok(equal(bytes, ours));
      }),
      runs(500),
    );
  });

  test('merged again with theirs as the base there is nothing more to take', () => {
    fc.assert(
      fc.property(side, side, side, side, grain, (base, ours, theirs, later, how) => {
        const first = mergeBytes(base, ours, theirs, how);
        if (first.verdict === 'conflict') return;
        const again = mergeBytes(theirs, first.bytes, theirs, how);
        assert.ok(again.verdict === 'unchanged' || again.verdict === 'kept');
        assert.deepEqual(again.bytes, first.bytes);
        // What theirs does later is merged alone.
        const second = mergeBytes(theirs, first.bytes, later, how);
        if (second.verdict === 'conflict') return;
        for (const { at, length } of differingRanges(theirs, later))
          assert.deepEqual(second.bytes.slice(at, at + length), later.slice(at, at + length));
      }),
      runs(500),
    );
  });

  test('lengths that differ are no three sides', () => {
    assert.throws(() => mergeBytes(new Uint8Array(1), new Uint8Array(2), new Uint8Array(1)), RangeError);
  });

  test('ranges: all that differs and nothing else, as few as possible', () => {
    fc.assert(
      fc.property(side, side, (a, b) => {
        const ranges = differingRanges(a, b);
        const inside = (at: number) => ranges.some((range) => at >= range.at && at < range.at + range.length);
        for (let at = 0; at < a.length; at++) assert.equal(inside(at), a[at] !== b[at]);
        for (const [n, { at, length }] of ranges.entries())
          assert.ok(n === 0 || at > ranges[n - 1]!.at + ranges[n - 1]!.length || length === 0);
        assert.deepEqual(differingRanges(a, b, 2), ranges.slice(0, 2));
      }),
      runs(200),
    );
  });
});

const BLOCKS = 6;
const image = Uint8Array.of(0x6f, 0, 0, 0);

function diskMachine(engine: Engine, content: Uint8Array): Machine {
  const base = new MemoryBackend(content);
  const disk = new OverlayBackend(base, new FrameBlocks(engine.pool, base.size));
  return bareMachine(image, { disks: [{ backend: disk }] }, {}, engine);
}

const cloneOf = (machine: Machine, point: ForkPoint, content: Uint8Array) =>
  machineFrom(machine.engine, shareForkPoint(machine.engine.pool, point), {
    disks: [{ backend: new MemoryBackend(content, true) }],
  });

function write(machine: Machine, block: number, value: number): void {
  machine.platform.backends[0]!.write(block * 4096, new Uint8Array(4096).fill(value));
}

function content(machine: Machine): Uint8Array {
  const bytes = new Uint8Array(BLOCKS * 4096 - 512);
  machine.platform.backends[0]!.read(0, bytes);
  return bytes;
}

const writes = fc.array(fc.record({ block: fc.nat(BLOCKS - 2), value: fc.integer({ min: 0, max: 3 }) }), {
  maxLength: 5,
});

describe('disks and memory', () => {
  const engine = new Engine(new Pool(), 0);

  test('a disk is merged as its bytes are, block by block', () => {
    fc.assert(
      fc.property(writes, writes, writes, (before, ours, theirs) => {
        const below = new Uint8Array(BLOCKS * 4096 - 512).fill(1, 0, 4096);
        const machine = diskMachine(engine, below);
        for (const { block, value } of before) write(machine, block, value);
        const point = forkPoint(machine);
        const base = content(machine);
        const clone = cloneOf(machine, point, below);
        for (const { block, value } of ours) write(machine, block, value);
        for (const { block, value } of theirs) write(clone, block, value);
        const expected = mergeBytes(base, content(machine), content(clone), { unit: 4096 });
        const other = forkPoint(clone);
        const hash = stateHash(machine);
        const merged = mergeDisk(machine, 0, point.disks[0]!, other.disks[0]!);
        assert.deepEqual(content(machine), expected.bytes);
        assert.equal(merged.verdict === 'conflict', expected.verdict === 'conflict');
        assert.deepEqual(
          merged.conflicts,
          expected.conflicts.flatMap(({ at, length }) =>
            Array.from({ length: length / 4096 }, (_, n) => at / 4096 + n),
          ),
        );
        const changed = merged.taken.length > 0;
        assert.equal(changed, expected.verdict === 'taken' || expected.verdict === 'merged');
        assert.equal(stateHash(machine) !== hash, changed);
        for (const one of [machine, clone]) one.free();
        for (const one of [point, other]) freeForkPoint(engine.pool, one);
        assert.equal(engine.pool.used, 0);
      }),
      runs(60),
    );
  });

  test('a merge that finds no room has changed nothing', () => {
    const pool = new Pool(9500);
    const small = new Engine(pool, 0);
    const below = new Uint8Array(BLOCKS * 4096 - 512);
    const machine = diskMachine(small, below);
    const point = forkPoint(machine);
    const clone = cloneOf(machine, point, below);
    for (const block of [0, 1, 2, 3]) write(clone, block, 7);
    const other = forkPoint(clone);
    const hash = stateHash(machine);
    const held: number[] = [];
    while (pool.available > 3) held.push(pool.allocate(false));
    assert.throws(() => mergeDisk(machine, 0, point.disks[0]!, other.disks[0]!), PoolFullError);
    for (const frame of held) pool.release(frame);
    assert.equal(stateHash(machine), hash);
    assert.deepEqual(mergeDisk(machine, 0, point.disks[0]!, other.disks[0]!), {
      verdict: 'taken',
      taken: [0, 1, 2, 3],
      conflicts: [],
    });
    for (const one of [machine, clone]) one.free();
    for (const one of [point, other]) freeForkPoint(pool, one);
  });

  test('memory and registers that differ are found where they are', () => {
    const machine = bareMachine(image, {}, {}, engine);
    machine.run(10);
    const point = forkPoint(machine);
    machine.ram.write(RAM_BASE + 5 * PAGE - 2, Uint8Array.of(1, 2, 3, 4));
    machine.ram.write(RAM_BASE + 9 * PAGE, new Uint8Array(10));
    machine.hartSet.record(0).setX(10, 77n);
    machine.hartSet.record(0).set('sepc', 4n);
    const other = forkPoint(machine);
    const pages = machine.ram.pages;
    assert.deepEqual(diffMaps(engine.pool, pages, point.ram, other.ram, { limit: 10 }), {
      ranges: [{ at: 5 * PAGE - 2, length: 4 }],
      more: false,
    });
    assert.deepEqual(diffMaps(engine.pool, pages, point.ram, other.ram, { limit: 0 }), { ranges: [], more: true });
    const { harts } = recordMachine(machine);
    assert.deepEqual(diffRegisters(point.record.harts, harts), [
      { hart: 0, name: 'a0', a: 0n, b: 77n },
      { hart: 0, name: 'sepc', a: 0n, b: 4n },
    ]);
    assert.deepEqual(diffRegisters(harts, harts), []);
    machine.free();
    for (const one of [point, other]) freeForkPoint(engine.pool, one);
  });
});
