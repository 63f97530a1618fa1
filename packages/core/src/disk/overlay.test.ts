/** Overlays against plain arrays: random calls on random trees of forks, over bases that answer at once, late, or not at all. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type BlockBackend, MemoryBackend } from '../devices/virtio-block/backend.ts';
import { MemoryBlockMap } from '../testing/block-map.ts';
import { SEED } from '../testing/machines.ts';
import { BLOCK, type BlockMap } from './block-map.ts';
import { OverlayBackend, type OverlayJournal } from './overlay.ts';

const SECTOR = 512;
const BLOCKS = 5;

/** Bytes that differ from sector to sector and from seed to seed; every third block is zero. */
function image(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) =>
    Math.floor(i / BLOCK) % 3 === 1 ? 0 : 1 + ((i * 31 + Math.floor(i / SECTOR)) % 255),
  );
}

/** The methods of a backend that answers as `inner` does, after `before`. */
function wrapped(inner: MemoryBackend, before: (work: () => void) => void | Promise<void>): BlockBackend {
  return {
    size: inner.size,
    readOnly: false,
    read: (offset, into) => before(() => inner.read(offset, into)),
    write: (offset, bytes) => before(() => inner.write(offset, bytes)),
    flush: () => before(() => {}),
  };
}

const late = (inner: MemoryBackend) => wrapped(inner, (work) => Promise.resolve().then(work));

type Op = {
  kind: 'write' | 'zero' | 'discard' | 'read' | 'fork' | 'drop';
  disk: number;
  at: number;
  length: number;
  fill: number;
};

const ops = fc.array(
  fc.record<Op>({
    kind: fc.constantFrom('write', 'write', 'write', 'zero', 'discard', 'read', 'fork', 'drop'),
    disk: fc.nat(7),
    // Byte offsets: a guest's are whole sectors, the overlay does not depend on it.
    at: fc.oneof(
      fc.nat(BLOCKS * BLOCK),
      fc.nat(BLOCKS * 8).map((sector) => sector * SECTOR),
    ),
    length: fc.oneof(fc.nat(3 * BLOCK), fc.constantFrom(0, SECTOR, BLOCK, 2 * BLOCK)),
    fill: fc.integer({ min: 1, max: 255 }),
  }),
  { minLength: 1, maxLength: 40 },
);
const sectors = fc.integer({ min: 1, max: BLOCKS * 8 });

/** What a call does to a plain array. */
function apply(model: Uint8Array, { kind, at, length, fill }: Op): void {
  if (kind === 'write') model.fill(fill, at, at + length);
  if (kind === 'zero' || kind === 'discard') model.fill(0, at, at + length);
}

function call(disk: BlockBackend, { kind, at, length, fill }: Op): void | Promise<void> {
  if (kind === 'write') return disk.write(at, new Uint8Array(length).fill(fill));
  if (kind === 'zero') return disk.zero!(at, length);
  return disk.discard!(at, length);
}

async function content(disk: BlockBackend, at = 0, length = Number(disk.size)): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await disk.read(at, bytes);
  return bytes;
}

for (const [name, make] of [
  ['at once', (base: MemoryBackend) => base],
  ['late', late],
] as const) {
  test(`overlays and their forks equal plain arrays over a base that answers ${name} (seed ${SEED})`, async () => {
    await fc.assert(
      fc.asyncProperty(sectors, ops, async (sectors, ops) => {
        const size = sectors * SECTOR;
        const memory = new MemoryBackend(image(size));
        const base = make(memory);
        const overlay = (map: MemoryBlockMap) => new OverlayBackend(base, map, { frozen: true });
        const root = new MemoryBlockMap();
        const disks = [{ map: root, disk: overlay(root), model: image(size) }];
        for (const op of ops) {
          const index = op.disk % disks.length;
          const { map, disk, model } = disks[index]!;
          const at = Math.min(op.at, size);
          const length = Math.min(op.length, size - at);
          if (op.kind === 'fork') {
            const fork = map.fork();
            disks.push({ map: fork, disk: overlay(fork), model: model.slice() });
          } else if (op.kind === 'drop') {
            if (disks.length > 1) disks.splice(index, 1);
          } else if (op.kind === 'read') {
            assert.deepEqual(await content(disk, at, length), model.slice(at, at + length));
          } else {
            await call(disk, { ...op, at, length });
            apply(model, { ...op, at, length });
          }
        }
        for (const { disk, model } of disks) assert.deepEqual(await content(disk), model);
        assert.deepEqual(memory.bytes, image(size), 'the base is as it was');
        const last = disks[0]!;
        await last.disk.commit();
        assert.deepEqual(memory.bytes, last.model);
        assert.deepEqual([...last.map.changed()], []);
        last.disk.thaw();
        await last.disk.write(0, new Uint8Array(SECTOR).fill(7));
        assert.equal(memory.bytes[0], 7);
      }),
      { seed: SEED, numRuns: 300 },
    );
  });
}

test(`a base that fails and a map without room leave each block old or new, and the call can be repeated (seed ${SEED})`, async () => {
  const failures = fc.infiniteStream(fc.integer({ min: 0, max: 3 }));
  await fc.assert(
    fc.asyncProperty(sectors, ops, failures, fc.boolean(), async (sectors, ops, failures, waits) => {
      const size = sectors * SECTOR;
      let failing = false;
      const fail = () => {
        if (failing && failures.next().value === 0) throw new Error('bad sector');
      };
      const base = wrapped(new MemoryBackend(image(size)), (work) => {
        const answer = () => {
          fail();
          work();
        };
        return waits ? Promise.resolve().then(answer) : answer();
      });
      const map = new MemoryBlockMap();
      const disk = new OverlayBackend(base, map, { frozen: true });
      const model = image(size);
      for (const op of ops.filter(({ kind }) => kind === 'write' || kind === 'zero' || kind === 'discard')) {
        const at = Math.min(op.at, size);
        const length = Math.min(op.length, size - at);
        const before = model.slice();
        apply(model, { ...op, at, length });
        failing = true;
        map.room = failures.next().value;
        let failed = false;
        try {
          await call(disk, { ...op, at, length });
        } catch {
          failed = true;
        }
        failing = false;
        map.room = Number.MAX_SAFE_INTEGER;
        const now = await content(disk);
        for (let block = 0; block * BLOCK < size; block++) {
          const [old, wanted, is] = [before, model, now].map((all) => all.slice(block * BLOCK, (block + 1) * BLOCK));
          if (failed && Buffer.compare(is!, old!) === 0) continue;
          assert.deepEqual(is, wanted, `block ${block}`);
        }
        if (failed) await call(disk, { ...op, at, length });
        assert.deepEqual(await content(disk), model);
      }
    }),
    { seed: SEED, numRuns: 200 },
  );
});

test('answers at once where the base does, and late where it does not', async () => {
  for (const waits of [false, true]) {
    const memory = new MemoryBackend(image(4 * BLOCK));
    const disk = new OverlayBackend(waits ? late(memory) : memory, new MemoryBlockMap(), { frozen: true });
    const kind = waits ? Promise : undefined;
    for (const make of [
      () => disk.read(0, new Uint8Array(SECTOR)),
      () => disk.write(SECTOR, new Uint8Array(SECTOR)),
      () => disk.zero(0, 3 * BLOCK),
      () => disk.flush(),
      () => disk.commit(),
    ]) {
      const answer = make();
      assert.equal(answer?.constructor, kind, String(make));
      await answer;
    }
    assert.equal(disk.write(BLOCK, new Uint8Array(BLOCK)), undefined, 'whole blocks need nothing of the base');
    assert.equal(disk.read(BLOCK, new Uint8Array(BLOCK)), undefined);
  }
});

test('runs of absent blocks are one call of the base each', () => {
  const calls: string[] = [];
  const memory = new MemoryBackend(image(5 * BLOCK));
  const base: BlockBackend = {
    size: memory.size,
    readOnly: true,
    read: (offset, into) => {
      calls.push(`${offset} ${into.length}`);
      memory.read(offset, into);
    },
    write: () => assert.fail(),
    flush: () => {},
    prefetch: (offset, length) => void calls.push(`prefetch ${offset} ${length}`),
  };
  const disk = new OverlayBackend(base, new MemoryBlockMap(), { frozen: true, readOnly: false });
  disk.write(2 * BLOCK, new Uint8Array(BLOCK).fill(9));
  disk.read(SECTOR, new Uint8Array(4 * BLOCK));
  disk.prefetch(0, SECTOR);
  assert.deepEqual(calls, [
    `${SECTOR} ${2 * BLOCK - SECTOR}`,
    `${3 * BLOCK} ${BLOCK + SECTOR}`,
    `prefetch 0 ${SECTOR}`,
  ]);
  assert.throws(() => disk.commit(), /its base is read-only/);
});

test('clearing takes room only for what was not zero', () => {
  const map = new MemoryBlockMap();
  const memory = new MemoryBackend(new Uint8Array(200 * BLOCK + SECTOR));
  memory.bytes.fill(1, 70 * BLOCK, 70 * BLOCK + 1);
  memory.bytes.fill(1, 200 * BLOCK);
  const disk = new OverlayBackend(memory, map, { frozen: true });
  disk.discard(0, memory.bytes.length);
  assert.deepEqual([...map.changed()], [70, 200]);
});

test('a transparent disk passes everything on', () => {
  const calls: string[] = [];
  const base: BlockBackend = {
    size: BigInt(BLOCK),
    readOnly: false,
    read: (offset, into) => void calls.push(`read ${offset} ${into.length}`),
    write: (offset, bytes) => void calls.push(`write ${offset} ${bytes.length}`),
    flush: () => void calls.push('flush'),
    discard: (offset, length) => void calls.push(`discard ${offset} ${length}`),
  };
  const zeroing: BlockBackend = { ...base, zero: (offset, length) => void calls.push(`zero ${offset} ${length}`) };
  const disk = new OverlayBackend(base, new MemoryBlockMap());
  disk.read(0, new Uint8Array(SECTOR));
  disk.write(SECTOR, new Uint8Array(SECTOR));
  disk.discard(0, SECTOR);
  disk.zero(0, SECTOR);
  disk.flush();
  disk.commit();
  new OverlayBackend(zeroing, new MemoryBlockMap()).zero(0, SECTOR);
  assert.deepEqual(calls, [
    'read 0 512',
    'write 512 512',
    'discard 0 512',
    'write 0 512',
    'flush',
    'flush',
    'zero 0 512',
  ]);
});

test('a read-only disk is not written, whatever it stands on', () => {
  for (const frozen of [false, true]) {
    const memory = new MemoryBackend(image(BLOCK), true);
    const disk = new OverlayBackend(memory, new MemoryBlockMap(), { frozen });
    assert.equal(disk.readOnly, true);
    for (const op of ['write', 'zero', 'discard'] as const) {
      assert.throws(() => call(disk, { kind: op, disk: 0, at: 0, length: SECTOR, fill: 1 }), {
        code: 'ERR_BRAID_DISK',
      });
    }
    assert.deepEqual(memory.bytes, image(BLOCK));
  }
});

/** A journal that notes what it is told. */
function noting(calls: string[], answer: (what: string) => void | Promise<void> = () => {}): OverlayJournal {
  return {
    append: (_map: BlockMap, blocks, whole) => {
      calls.push(`append ${blocks}${whole ? ' whole' : ''}`);
      return answer('append');
    },
    apply: (map) => {
      calls.push(`apply ${[...map.changed()]}`);
      return answer('apply');
    },
  };
}

test('a flush tells the journal what was written since the last one, and after a failure everything', () => {
  const calls: string[] = [];
  let failing = false;
  const journal = noting(calls, () => {
    if (failing) throw new Error('no space');
  });
  const disk = new OverlayBackend(new MemoryBackend(image(9 * BLOCK)), new MemoryBlockMap(), { journal });
  disk.write(0, new Uint8Array(SECTOR));
  disk.flush();
  assert.deepEqual(calls, [], 'transparent');
  disk.freeze();
  const one = new Uint8Array(SECTOR);
  disk.write(8 * BLOCK, one);
  disk.write(3 * BLOCK, one);
  disk.flush();
  disk.flush();
  disk.write(5 * BLOCK, one);
  disk.zero(2 * BLOCK, BLOCK);
  disk.flush();
  failing = true;
  disk.write(0, one);
  assert.throws(() => disk.flush(), /no space/);
  assert.throws(() => disk.commit(), /no space/);
  failing = false;
  disk.flush();
  disk.write(8 * BLOCK, one);
  disk.commit();
  disk.commit();
  assert.deepEqual(calls, [
    'append 3,8 whole',
    'append 2,5',
    'append 0',
    'append 0,2,3,5,8 whole',
    'append 0,2,3,5,8 whole',
    'append 8',
    'apply 0,2,3,5,8',
    'append  whole',
    'apply ',
  ]);
});

test('nothing freezes, thaws or commits during a call, and nothing thaws with blocks in the overlay', async () => {
  const memory = new MemoryBackend(image(2 * BLOCK));
  const disk = new OverlayBackend(late(memory), new MemoryBlockMap(), { frozen: true });
  const write = disk.write(0, new Uint8Array(SECTOR).fill(5));
  for (const change of [() => disk.freeze(), () => disk.thaw(), () => disk.commit()]) {
    assert.throws(change, { code: 'ERR_BRAID_DISK', message: /under way/ });
  }
  await write;
  assert.throws(() => disk.thaw(), /holds block 0/);
  await disk.commit();
  disk.thaw();
  assert.equal(disk.frozen, false);
  assert.equal(memory.bytes[0], 5);
});

test('what is written while a flush is under way is for the next one', async () => {
  const calls: string[] = [];
  const ends: (() => void)[] = [];
  const journal = noting(calls, () => new Promise<void>((resolve) => ends.push(resolve)));
  const disk = new OverlayBackend(new MemoryBackend(image(4 * BLOCK)), new MemoryBlockMap(), { frozen: true, journal });
  disk.write(0, new Uint8Array(BLOCK));
  const flush = disk.flush();
  disk.write(BLOCK, new Uint8Array(BLOCK).fill(1));
  ends.shift()!();
  await flush;
  const next = disk.flush();
  ends.shift()!();
  await next;
  assert.deepEqual(calls, ['append 0 whole', 'append 1']);
});
