/** The frame pool: counts, reuse, limits, and the arena of decoded code. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { Engine } from '../engine/engine.ts';
import { stateHash } from '../machine/hash.ts';
import { Assembler } from '../testing/assembler.ts';
import { bareMachine, ENGINE_OPTIONS, runSteps, runs } from '../testing/machines.ts';
import { CODE_PAGE, CODE_PAGES, FIRST_FRAME, FRAME_RECORD, HEADER, PAGE, RAM_BASE } from './layout.ts';
import { Pool, PoolFullError } from './pool.ts';
import { Ram } from './ram.ts';

test('a frame is zeroed when it comes back, and has a new generation', () => {
  const pool = new Pool();
  const frame = pool.allocate();
  assert.equal(frame, FIRST_FRAME);
  const generation = () => pool.words[pool.recordWord(frame, FRAME_RECORD.generation)]!;
  const before = generation();
  pool.bytes.fill(0xff, frame * PAGE, (frame + 1) * PAGE);
  pool.words[pool.recordWord(frame, FRAME_RECORD.flags)] = 0xffff;
  pool.release(frame);
  assert.equal(pool.allocate(), frame);
  assert.equal(generation(), before + 1);
  assert.equal(pool.words[pool.recordWord(frame, FRAME_RECORD.flags)], 0);
  assert.ok(pool.bytes.subarray(frame * PAGE, (frame + 1) * PAGE).every((byte) => byte === 0));
});

test('counts of references and of frames in use, for random orders', () => {
  const operation = fc.record({ kind: fc.constantFrom('allocate', 'retain', 'release'), which: fc.nat() });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 300 }), (operations) => {
      const pool = new Pool(40);
      const model = new Map<number, number>();
      for (const { kind, which } of operations) {
        const held = [...model.keys()];
        const frame = held[which % Math.max(held.length, 1)];
        if (kind === 'allocate') {
          if (model.size === 40) assert.throws(() => pool.allocate(), PoolFullError);
          else {
            const made = pool.allocate();
            assert.ok(!model.has(made), 'a frame in use was given out');
            model.set(made, 1);
          }
        } else if (frame !== undefined) {
          const count = model.get(frame)! + (kind === 'retain' ? 1 : -1);
          if (kind === 'retain') pool.retain(frame);
          else pool.release(frame);
          if (count === 0) model.delete(frame);
          else model.set(frame, count);
        }
        assert.equal(pool.used, model.size);
        for (const [each, count] of model) assert.equal(pool.references(each), count);
      }
    }),
    runs(40),
  );
});

test('there are only so many code pages, and they come back', () => {
  const pool = new Pool(100, 3);
  const pages = [pool.takeCodePage(), pool.takeCodePage(), pool.takeCodePage()];
  assert.deepEqual(
    pages,
    [0, 1, 2].map((n) => CODE_PAGES + n * CODE_PAGE.size),
  );
  assert.equal(pool.takeCodePage(), 0);
  pool.giveCodePages([pages[1]!]);
  assert.equal(pool.takeCodePage(), pages[1]);
  assert.equal(pool.takeCodePage(), 0);
  const epoch = pool.codeEpoch;
  pool.rebuild([]);
  assert.notEqual(pool.codeEpoch, epoch);
  assert.equal(pool.takeCodePage(), CODE_PAGES);
});

/** A program of functions in many pages, one across each page boundary, called in turn; it changes some of them. */
function manyPages(pages: number): Uint8Array {
  const [ra, t0, t1, s0] = [1, 5, 6, 8] as const;
  const a = new Assembler(RAM_BASE);
  a.label('again');
  for (let page = 1; page <= pages; page++) {
    a.la(t0, `function${page}`);
    a.op('jalr', { rd: ra, rs1: t0 });
  }
  // The first instruction of one function becomes another: addi s0, s0, n.
  a.la(t0, `function${Math.ceil(pages / 2)}`);
  a.op('lw', { rd: t1, rs1: t0 });
  a.op('lui', { rd: 7, imm: 0x10_0000 });
  a.op('add', { rd: t1, rs1: t1, rs2: 7 });
  a.op('sw', { rs1: t0, rs2: t1 });
  a.jump(0, 'again');
  for (let page = 1; page <= pages; page++) {
    a.org(RAM_BASE + page * 4096 + (page % 2 ? 4094 : 64));
    a.label(`function${page}`);
    a.op('addi', { rd: s0, rs1: s0, imm: page });
    a.op('jalr', { rs1: ra });
  }
  a.op('addi');
  return a.bytes();
}

test('a machine whose code does not fit into the arena runs the same', () => {
  const image = manyPages(30);
  const reference = bareMachine(image);
  runSteps(reference, 20_000);
  const expected = stateHash(reference);
  reference.free();
  for (const codePages of [32, 33, 40]) {
    const pool = new Pool(undefined, codePages);
    const engines = [0, 1].map((worker) => new Engine(pool, worker, ENGINE_OPTIONS));
    // Two machines on two engines take the arena away from each other.
    const machines = engines.map((engine) => bareMachine(image, {}, {}, engine));
    for (let turn = 0; turn < 40; turn++) for (const machine of machines) runSteps(machine, 500);
    for (const machine of machines) {
      assert.equal(stateHash(machine), expected);
      machine.free();
    }
  }
});

test('counts and free list come back from the surviving maps, whatever a dead thread left', () => {
  const pool = new Pool();
  const first = new Ram(pool, 64 * 2 ** 20);
  const second = new Ram(pool, 32 * 2 ** 20);
  const lost = new Ram(pool, 32 * 2 ** 20);
  for (const [n, ram] of [first, second, lost].entries()) {
    for (let page = n; page < 5000; page += 37) ram.write(RAM_BASE + page * PAGE, Uint8Array.of(page, n));
  }
  // A leaf that two maps share, as after a fork; it holds its frames once.
  const leafWord = (ram: Ram) => ram.directory >>> 2;
  const own = pool.words[leafWord(second)]!;
  pool.words[leafWord(second)] = pool.words[leafWord(first)]!;
  pool.retain(pool.words[leafWord(first)]!);
  const pinned = pool.allocate();
  const expected = (frame: number) => pool.references(frame);
  const survivors = [first.directory / PAGE, pool.words[leafWord(first)]!, first.entry(37) & 0xfffff, pinned];
  const counts = survivors.map(expected);
  pool.words[HEADER.lock] = 1; // died while it held the lock
  pool.words[pool.recordWord(pinned, FRAME_RECORD.references)] = 77;
  pool.rebuild([first.directory / PAGE, second.directory / PAGE], [pinned]);
  assert.deepEqual(survivors.map(expected), counts);
  assert.equal(pool.references(own), 0, 'a leaf that nobody refers to is free');
  assert.equal(pool.references(lost.directory / PAGE), 0);
  const byte = new Uint8Array(2);
  assert.ok(first.read(RAM_BASE + 37 * PAGE, byte));
  assert.deepEqual([...byte], [37, 0]);
  // Everything that is free can be given out again, and nothing else.
  const used = pool.used;
  const taken = new Set<number>();
  while (pool.used < pool.words[HEADER.nextFrame]! - FIRST_FRAME) taken.add(pool.allocate());
  assert.equal(taken.size, pool.used - used);
  for (const survivor of survivors) assert.ok(!taken.has(survivor));
});

test('threads of one pool never get the same frame', async () => {
  const pool = new Pool();
  const source = `
    import { parentPort, workerData } from 'node:worker_threads';
    const { Pool } = await import(workerData.module);
    const pool = new Pool(undefined, undefined, workerData.memory);
    const held = [];
    for (let i = 0; i < 20000; i++) {
      if (held.length > 0 && (i * 7919) % 3 === 0) pool.release(held.splice((i * 31) % held.length, 1)[0]);
      else held.push(pool.allocate());
    }
    parentPort.postMessage(held);`;
  const held = await Promise.all(
    [0, 1, 2].map(
      () =>
        new Promise<number[]>((resolve, reject) => {
          const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
            workerData: { memory: pool.memory, module: new URL('./pool.ts', import.meta.url).href },
          });
          worker.once('message', resolve);
          worker.once('error', reject);
        }),
    ),
  );
  const all = held.flat();
  assert.equal(new Set(all).size, all.length, 'a frame was given to two threads');
  assert.equal(pool.used, all.length);
  for (const frame of all) pool.release(frame);
  assert.equal(pool.used, 0);
});
