/** Journals that are cut off, damaged, foreign or made up: an error with a code, or the state before; never a wrong block. */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { OverlayBackend } from '@braid/core/disk/overlay.ts';
import { MemoryBlockMap } from '@braid/core/testing/block-map.ts';
import fc from 'fast-check';
import { FileBackend } from './file-backend.ts';
import { encodeBound, encodePage, PAGE_SIZE, sha256, transactionSize } from './journal-format.ts';
import { NOTHING, SimulatedFiles } from './testing.ts';

const SEED = Number(process.env.BRAID_SEED ?? 1);
const IMAGE = '/disks/image';
const JOURNAL = `${IMAGE}.braid-journal`;
const BLOCK = 4096;
const SIZE = 4 * BLOCK;

/** An image, its journal of three transactions, and what the disk holds after none, one, two and three of them. */
function crashed() {
  const files = new SimulatedFiles();
  files.put(IMAGE, new Uint8Array(SIZE).fill(1));
  const file = new FileBackend(IMAGE, false, { files });
  const disk = new OverlayBackend(file, new MemoryBlockMap(), { journal: file, frozen: true });
  const states = [Buffer.alloc(SIZE, 1)];
  for (const [blocks, fill] of [
    [[0, 2], 2],
    [[1], 3],
    [[0, 1, 3], 4],
  ] as const) {
    const state = Buffer.from(states.at(-1)!);
    for (const block of blocks) {
      const bytes = new Uint8Array(BLOCK).fill(fill);
      disk.write(block * BLOCK, bytes);
      state.set(bytes, block * BLOCK);
    }
    disk.flush();
    states.push(state);
  }
  const left = files.afterCrash(NOTHING);
  return { left, states, journal: Buffer.from(left.content(JOURNAL)!) };
}

/** Opens the image beside a journal: what the disk holds then, or the error's message. */
function opened(left: SimulatedFiles, journal: Uint8Array): Buffer | string {
  const before = Buffer.from(left.content(IMAGE)!);
  left.put(JOURNAL, journal);
  try {
    new FileBackend(IMAGE, false, { files: left }).close();
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'ERR_BRAID_JOURNAL', (error as Error).stack);
    assert.deepEqual(left.content(IMAGE), before, 'the image is as it was');
    assert.deepEqual(left.content(JOURNAL), Buffer.from(journal), 'the journal is as it was');
    assert.equal(left.openFiles, 0);
    return (error as Error).message;
  }
  assert.deepEqual(left.paths(), [IMAGE]);
  return left.content(IMAGE)!;
}

test('a journal that is cut off anywhere gives what is complete', () => {
  const { states, journal } = crashed();
  const ends = [PAGE_SIZE];
  for (const blocks of [2, 1, 3]) ends.push(ends.at(-1)! + transactionSize(blocks));
  assert.equal(journal.length, ends[3]);
  for (let length = 0; length <= journal.length; length += length % 512 < 3 ? 1 : 101) {
    const complete = ends.filter((end) => end <= length).length - 1;
    const found = opened(crashed().left, journal.subarray(0, length));
    if (complete < 1) assert.match(String(found), /is damaged|no journal/, `${length} bytes`);
    else assert.deepEqual(found, states[complete], `${length} bytes`);
  }
});

test(`a damaged journal gives an error or a state that was flushed (seed ${SEED})`, () => {
  const { states, journal } = crashed();
  const damage = fc.record({
    at: fc.oneof(
      fc.nat(journal.length - 1),
      fc.nat(120),
      fc.nat(200).map((i) => PAGE_SIZE + i),
    ),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }),
  });
  let refused = 0;
  fc.assert(
    fc.property(fc.array(damage, { minLength: 1, maxLength: 3 }), (damages) => {
      const bad = Buffer.from(journal);
      for (const { at, bytes } of damages) bad.set(bytes.subarray(0, bad.length - at), at);
      const found = opened(crashed().left, bad);
      if (typeof found === 'string') refused++;
      else assert.ok(states.slice(1).some((state) => state.equals(found)));
    }),
    { seed: SEED, numRuns: 600 },
  );
  assert.ok(refused > 100, `${refused} refused`);
});

test('damage before a later transaction is no cut: nothing that was flushed is dropped silently', () => {
  const { states, journal } = crashed();
  const second = PAGE_SIZE + transactionSize(2);
  const third = second + transactionSize(1);
  for (const at of [PAGE_SIZE, PAGE_SIZE + 70, PAGE_SIZE + 500, second, second + 32, second + 100, third - 1]) {
    const bad = Buffer.from(journal);
    bad[at]! ^= 1;
    assert.match(String(opened(crashed().left, bad)), /transaction [12], at byte \d+, is damaged/);
  }
  // The end of one that was cut off may be on the medium when its beginning is not.
  const torn = Buffer.from(journal);
  torn.fill(0, third, third + 600);
  assert.deepEqual(opened(crashed().left, torn), states[2]);
});

test('a journal of another image, another version or another kind is refused', () => {
  const { journal } = crashed();
  const shorter = crashed().left;
  shorter.put(IMAGE, new Uint8Array(SIZE - 512));
  assert.match(String(opened(shorter, journal)), /another image.*16384 bytes.*has 15872/);
  const replaced = crashed().left;
  replaced.put(IMAGE, new Uint8Array(SIZE));
  assert.match(String(opened(replaced, journal)), /another image.*touch -d @1700000000\.\d{9} IMAGE/);
  const newer = Buffer.from(journal);
  newer[8] = 2;
  assert.match(String(opened(crashed().left, newer)), /version 2.*knows version 1/);
  for (const nothing of [new Uint8Array(0), new Uint8Array(5000), randomBytes(9000)]) {
    assert.match(String(opened(crashed().left, nothing)), /no journal of a disk/);
  }
  assert.match(String(opened(crashed().left, journal.subarray(0, PAGE_SIZE))), /transaction 1, .*damaged/);
});

test('a made-up journal whose hashes are right names no block outside the image', () => {
  const left = crashed().left;
  const id = randomBytes(16);
  const { modified } = left.status(left.open(IMAGE, 'read'));
  for (const numbers of [[4n], [2n ** 40n], [2n ** 64n - 1n], [1n, 1n], [2n, 1n]]) {
    const { left } = crashed();
    const table = Buffer.alloc(8 * numbers.length);
    for (const [i, number] of numbers.entries()) table.writeBigUInt64LE(number, 8 * i);
    const head = encodeBound('head', numbers.length, 1, id);
    const end = encodeBound('end', numbers.length, 1, id);
    const body = Buffer.concat([head, table, Buffer.alloc(numbers.length * BLOCK), end]);
    sha256(body.subarray(0, -32)).copy(body, body.length - 32);
    const journal = Buffer.concat([encodePage({ size: SIZE, modified, id }), body]);
    assert.match(String(opened(left, journal)), /names blocks that the image does not have/);
  }
  // As many blocks as a number can say are just not there.
  const huge = encodeBound('head', 0xffff_ffff, 1, id);
  const page = encodePage({ size: SIZE, modified, id });
  assert.match(String(opened(crashed().left, Buffer.concat([page, huge, Buffer.alloc(5000)]))), /is damaged/);
});

/** A page, one complete transaction, and `rest` as it follows it. */
function journalWith(id: Buffer, rest: Uint8Array, modified: bigint): Buffer {
  const block = Buffer.alloc(8 + BLOCK);
  const head = encodeBound('head', 1, 1, id);
  const end = encodeBound('end', 1, 1, id);
  sha256(Buffer.concat([head, block, end.subarray(0, 32)])).copy(end, 32);
  return Buffer.concat([encodePage({ size: SIZE, modified, id }), head, block, end, rest]);
}

test('work and memory for a journal that was made up grow with its size only, and that is bounded', () => {
  const { left } = crashed();
  const image = left.open(IMAGE, 'read');
  const { modified } = left.status(image);
  left.close(image);
  const rest = 4 * 2 ** 20;
  const ids = [
    Buffer.alloc(16),
    Buffer.from('HEADHEADHEADHEAD'),
    Buffer.from('END \x01\0\0\0\x02\0\0\0\0\0\0\0', 'latin1'),
  ];
  for (const id of ids) {
    const filler = Buffer.alloc(rest, id);
    const from = process.cpuUsage();
    const found = opened(left, journalWith(id, filler, modified));
    const { user, system } = process.cpuUsage(from);
    assert.match(String(found), /is damaged/);
    assert.ok(user + system < 400_000 * (rest / 2 ** 20), `${(user + system) / 1000} ms for ${rest} bytes`);
  }
  const large = 65 * 2 ** 20;
  const id = Buffer.from('0123456789abcdef');
  assert.match(
    String(opened(left, journalWith(id, Buffer.alloc(large), modified))),
    /a journal of this image has at most/,
  );
});
