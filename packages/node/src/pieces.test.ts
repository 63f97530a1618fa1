/** Input that comes in pieces, when it comes: what the guest does depends on the pieces alone. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { guestMissing, SEED } from '@braid/core/testing/machines.ts';
import fc from 'fast-check';
import type { BraidError } from './errors.ts';
import { Machine } from './machine.ts';
import { PieceReader, piecesOf } from './pieces.ts';

const linux = { skip: guestMissing };

/** Gives texts, each so many ms later than it is asked for; `closed` counts who was told to stop. */
function source(texts: Iterable<string>, ms: () => number) {
  const told = { given: 0, closed: 0 };
  async function* give() {
    try {
      for (const text of texts) {
        if (ms() > 0) await sleep(ms());
        told.given++;
        yield text;
      }
    } finally {
      told.closed++;
    }
  }
  return Object.assign(told, { pieces: give() });
}

test('a pipe decides nothing of the pieces', async () => {
  const parts = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(parts, fc.integer({ min: 1, max: 50 }), async (parts, size) => {
      const from = async function* () {
        yield* parts;
      };
      const whole = Buffer.concat(parts);
      const found: Uint8Array[] = [];
      for await (const piece of piecesOf(from(), size)) found.push(piece);
      assert.deepEqual(Buffer.concat(found), whole);
      for (const piece of found.slice(0, -1)) assert.equal(piece.length, size);
      assert.equal(found.length, Math.ceil(whole.length / size));
    }),
    { seed: SEED },
  );
});

test('what is not taken is still there, within bounds', async () => {
  const reader = new PieceReader(source(['one ', 'two ', 'three'], () => 0).pieces);
  const taken: string[] = [];
  const all = await reader.feed(async (bytes) => {
    if (taken.length === 1) return false;
    taken.push(Buffer.from(bytes).toString());
    return true;
  });
  assert.deepEqual([all, taken], [false, ['one ']]);
  assert.equal(Buffer.from(await reader.rest(100)).toString(), 'two three');
  const long = new PieceReader(source(['x'.repeat(60), 'y'.repeat(60)], () => 0).pieces);
  await assert.rejects(long.rest(100), { code: 'ERR_BRAID_OPTION', message: /no more than 100 bytes/ });
});

test('the input of a program: late or at once, the machine is the same', linux, async () => {
  const texts = Array.from({ length: 12 }, (_, n) => `line ${n} ${'x'.repeat(n * 1000)}\n`);
  const run = async (ms: () => number) => {
    await using machine = await Machine.create({ memory: '64M', seed: 1 });
    const { pieces } = source(texts, ms);
    // It counts guest time and instructions, so that a machine that ran on would be another one.
    const { stdout } = await machine.exec(['sh', '-c', 'while read -r a b c; do date +%N; echo $b; done'], {
      input: pieces,
    });
    return [stdout, await machine.stateHash(), (await machine.stats()).steps] as const;
  };
  let n = 0;
  const [atOnce, late] = [await run(() => 0), await run(() => (n++ * 7) % 40)];
  assert.match(atOnce[0], /\n11\n$/);
  assert.deepEqual(late, atOnce);
});

test('the input of a program: its ends', linux, async (t) => {
  await using machine = await Machine.create({ memory: '64M', seed: 1 });
  const endless = function* () {
    for (;;) yield 'y\n'.repeat(5000);
  };
  await t.test('a program that reads no more ends the source', async () => {
    const { pieces } = source(endless(), () => 0);
    assert.equal((await machine.exec(['head', '-n', '1'], { input: pieces })).stdout, 'y\n');
    assert.deepEqual(await pieces.next(), { done: true, value: undefined });
  });
  await t.test('one that ends while the next piece is awaited waits for no piece', async () => {
    const never = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) };
    const giving = AbortSignal.timeout(300);
    await assert.rejects(machine.exec(['cat'], { input: never, signal: giving }), { name: 'TimeoutError' });
    await machine.setTime('wall');
    assert.equal((await machine.exec(['echo', 'over'], { input: never })).stdout, 'over\n');
    await machine.setTime('virtual');
  });
  await t.test('a source that fails, or gives what is no input, fails the call', async () => {
    const failing = async function* () {
      yield 'one\n';
      throw new Error('the source failed');
    };
    await assert.rejects(machine.exec(['cat'], { input: failing() }), /the source failed/);
    const wrong = async function* () {
      yield 5 as unknown as string;
    };
    await assert.rejects(machine.exec(['cat'], { input: wrong() }), { code: 'ERR_BRAID_OPTION' });
  });
  await t.test('nothing, and empty pieces', async () => {
    assert.equal((await machine.exec(['wc', '-c'], { input: source([], () => 0).pieces })).stdout.trim(), '0');
    assert.equal(
      (await machine.exec(['wc', '-c'], { input: source(['', 'a', ''], () => 0).pieces })).stdout.trim(),
      '1',
    );
  });
  await t.test('other calls go on meanwhile, in their turn', async () => {
    const { pieces } = source(['a\n', 'b\n', 'c\n'], () => 30);
    const [fed, other] = await Promise.all([machine.exec(['cat'], { input: pieces }), machine.exec(['echo', 'other'])]);
    assert.deepEqual([fed.stdout, other.stdout], ['a\nb\nc\n', 'other\n']);
  });
});

test('what is typed piece by piece enters where it would as a whole', linux, async () => {
  const texts = [
    'stty -echo; cat >/tmp/typed\n',
    ...Array.from({ length: 400 }, (_, n) => `some line ${n}\n`),
    '\x04',
    'md5sum </tmp/typed; poweroff\n',
  ];
  const run = async (type: (machine: Machine) => Promise<void>) => {
    await using machine = await Machine.create({ memory: '64M', seed: 1 });
    let console = '';
    machine.onConsole((bytes) => {
      console += Buffer.from(bytes).toString('latin1');
    });
    await Promise.all([type(machine), machine.wait()]);
    return [/[0-9a-f]{32}/.exec(console)?.[0], await machine.stateHash(), (await machine.stats()).steps];
  };
  const whole = await run((machine) => machine.type(texts.join('')));
  assert.ok(whole[0], 'all of it has been read');
  let n = 0;
  assert.deepEqual(await run((machine) => machine.type(source(texts, () => (n++ % 50 === 0 ? 10 : 0)).pieces)), whole);
});

test('typing that ends early leaves the machine as it is', linux, async () => {
  await using machine = await Machine.create({ memory: '64M', seed: 1 });
  const failing = async function* () {
    yield 'echo one\n';
    throw new Error('the source failed');
  };
  await assert.rejects(machine.type(failing()), /the source failed/);
  assert.equal((await machine.exec(['echo', 'alive'])).stdout, 'alive\n');
  await assert.rejects(machine.type(5 as never), (error: BraidError) => error.code === 'ERR_BRAID_OPTION');
});
