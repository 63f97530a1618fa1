/** Files of recordings that are damaged, all the way: a typed error that says where, and nothing else has changed. */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { SEED } from '@braid/core/testing/machines.ts';
import { Random } from '@braid/core/testing/random.ts';
import { chunksOf, rewritten } from '@braid/core/testing/sample-recording.ts';
import { encodeHeader, HEAD_SIZE, HEADER_SIZE } from '@braid/core/timeline/recording/chunk.ts';
import type { BraidError } from '../errors.ts';
import { Machine } from '../machine.ts';
import { Pool } from '../pool/pool.ts';
import { askingProgram } from '../testing.ts';
import { Replay } from './replay.ts';

const folder = mkdtempSync(join(tmpdir(), 'braid-damaged-'));
const path = join(folder, 'file');
const pool = new Pool({ threads: 2 });
after(async () => {
  await pool.dispose();
  rmSync(folder, { recursive: true });
});

let good: Uint8Array;

before(async () => {
  await using machine = await Machine.create({ bare: askingProgram({ work: 60_000 }), memory: '32M', seed: 6n });
  const recording = await machine.record(path, { keyframeMs: 1 });
  for (const line of ['one\n', 'two lines\nat once\n', 'three\n']) {
    await machine.type(line);
    await machine.step(1_000_000n).catch(() => {}); // it waits for more
  }
  await recording.stop();
  good = Uint8Array.from(readFileSync(path));
});

/**
 * What becomes of a file: its end, the end of the part that can be used, or an error. The file and the pool are as before.
 */
async function outcomeOf(bytes: Uint8Array): Promise<BraidError | 'end' | 'part' | 'going on'> {
  writeFileSync(path, bytes);
  const over = AbortSignal.timeout(2000);
  try {
    await using replay = await Replay.open(path, { pool });
    await replay.run({ signal: over });
    await replay.seek({ at: replay.end.at / 2n }, { signal: over });
    assert.ok(!replay.stopped || replay.stopped.offset < bytes.length);
    return replay.stopped && !replay.complete ? 'part' : 'end';
  } catch (error) {
    if (error === over.reason) return 'going on';
    const { code, message } = error as BraidError;
    assert.match(code ?? '', /^ERR_BRAID_(RECORDING|DIVERGENCE)$/, (error as Error).stack);
    assert.match(message, code === 'ERR_BRAID_RECORDING' ? /byte \d+: / : /at step \d+ \(\d+:\d+:\d+\)/);
    return error as BraidError;
  } finally {
    assert.ok(Buffer.from(bytes).equals(readFileSync(path)), 'the file is what it was');
    assert.equal(pool.memory.used, 0, 'nothing is left in the pool');
  }
}

test('whole, and cut off anywhere', async () => {
  assert.equal(await outcomeOf(good), 'end');
  const chunks = chunksOf(good);
  const first = chunks.find(({ kind }) => kind === 'keyframe')!;
  const random = new Random(SEED);
  const lengths = [...chunks.map(({ to }) => to), ...Array.from({ length: 25 }, () => random.below(good.length))];
  for (const length of lengths) {
    const found = await outcomeOf(good.slice(0, length));
    if (length >= first.to) assert.equal(found, 'end', `${length} bytes`);
    else assert.match((found as BraidError).message, /cut off/);
  }
});

test('any bit another one', async () => {
  let noticed = 0;
  const random = new Random(SEED);
  for (let turn = 0; turn < 40; turn++) {
    const bytes = good.slice();
    bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
    const found = await outcomeOf(bytes);
    if (found === 'end') continue; // of a page that nobody reads
    assert.ok(found === 'part' || (found instanceof Error && found.code === 'ERR_BRAID_RECORDING'), `${found}`);
    noticed++;
  }
  assert.ok(noticed > 25, `${noticed} noticed`);
});

/** The recording with nothing compressed. */
function unpacked(): Uint8Array {
  const parts: Uint8Array[] = [good.slice(0, HEAD_SIZE)];
  for (const [n, { from, to, kind, contents }] of chunksOf(good).entries()) {
    const stored = good.slice(from + HEADER_SIZE, to);
    const content = good[from + 5] === 2 ? Uint8Array.from(zstdDecompressSync(stored)) : stored;
    parts.push(encodeHeader(n, kind, 0, content, content.length, undefined, contents), content);
  }
  return Uint8Array.from(Buffer.concat(parts));
}

test('chunks in another order, left out, twice there, and with other contents, with checksums that are right', async () => {
  const plain = unpacked();
  assert.equal(await outcomeOf(plain), 'end');
  const chunks = chunksOf(plain);
  const random = new Random(SEED);
  const outcomes = new Map<string, number>();
  for (let turn = 0; turn < 80; turn++) {
    const wanted = random.pick(['start', 'events', 'changes', 'hashes', 'keyframe', 'marks', 'end']);
    const chosen = random.pick(chunks.flatMap(({ kind }, n) => (kind === wanted ? n : [])));
    const content = (n: number) => plain.slice(chunks[n]!.from + HEADER_SIZE, chunks[n]!.to);
    const bytes = rewritten(plain, (kind, own, n) => {
      if (n !== chosen) return own;
      switch (turn % 4) {
        case 0:
          return undefined;
        case 1: {
          // That of another chunk of its kind.
          const others = chunks.flatMap((one, at) => (one.kind === kind ? at : []));
          return content(random.pick(others));
        }
        case 2:
          return own.slice(0, random.below(own.length));
        default:
          own[random.below(own.length)] = random.below(256);
          return own;
      }
    });
    const found = await outcomeOf(bytes);
    const name = typeof found === 'string' ? found : found.code;
    outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
  }
  const seen = JSON.stringify([...outcomes]);
  assert.ok((outcomes.get('ERR_BRAID_RECORDING') ?? 0) + (outcomes.get('part') ?? 0) > 15, seen);
  assert.ok((outcomes.get('part') ?? 0) > 5, seen);
  assert.ok((outcomes.get('end') ?? 0) < 60, seen);
});
