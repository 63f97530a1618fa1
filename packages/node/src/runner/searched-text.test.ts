import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Machine, Replay } from '../index.ts';
import { endlessProgram, temporaryFolder } from '../testing.ts';
import { TextWatch } from './searched-text.ts';

const FLOOD = { bare: endlessProgram('flood'), seed: 1n } as const;

test('runUntil finds the same at the same position, wherever the host stops in between', async () => {
  const positions = [];
  for (const stops of [[], [40n], [1n, 17n, 1000n, 123_457n]]) {
    await using machine = await Machine.create(FLOOD);
    const found = machine.runUntil({ pattern: 'AAAA' });
    const steps = stops.map((count) => machine.step(count));
    positions.push(await found);
    await Promise.all(steps);
  }
  assert.deepEqual(positions[1], positions[0]);
  assert.deepEqual(positions[2], positions[0]);
});

test('an expression sees the text where slices end only', async () => {
  await using machine = await Machine.create({ ...FLOOD, maxSteps: 3_000_000n });
  const found = assert.rejects(machine.runUntil({ pattern: /^A{1,50}$/ }), { code: 'ERR_BRAID_MAX_STEPS' });
  await machine.step(40n);
  await found;
});

test('marks of console output are where slices end', async (t) => {
  const file = join(
    temporaryFolder((done) => t.after(done)),
    'recording',
  );
  {
    await using machine = await Machine.create(FLOOD);
    await using _ = await machine.record(file, { marks: [/^A{1,50}$/, /^A{60000,}$/] });
    await machine.step(40n);
    await machine.step(3_000_000n);
  }
  await using replay = await Replay.open(file);
  const marks = replay.marks.filter(({ kind }) => kind === 'console');
  assert.ok(marks.length > 0);
  for (const { position } of marks) assert.equal(position.step, 0);
});

test('a pattern is found across pieces, also in the middle of a character', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.array(fc.nat(9)), (around, cuts) => {
      const bytes = Buffer.from(`${around.toWellFormed()}Grüße 😀${around.toWellFormed()}`);
      const watches = [new TextWatch('üße 😀'), new TextWatch(/ü.e 😀/gu)];
      let at = 0;
      for (const cut of [...cuts, bytes.length]) {
        for (const watch of watches) watch.see(bytes.subarray(at, at + cut));
        at += cut;
      }
      for (const watch of watches) {
        assert.equal(watch.match(), 'üße 😀');
        assert.equal(watch.match(), undefined, 'nothing has come since');
      }
    }),
  );
});
