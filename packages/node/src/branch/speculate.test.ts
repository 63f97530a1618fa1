/** Speculation: a machine that was guessed for is, to the bit, where one is for which nobody guessed. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as later } from 'node:timers/promises';
import { guestMissing, runs } from '@braid/core/testing/machines.ts';
import fc from 'fast-check';
import type { BraidError } from '../errors.ts';
import { Machine } from '../machine.ts';
import { Pool } from '../pool/pool.ts';
import type { Program } from '../programs.ts';
import type { Reached } from '../runner/conditions.ts';
import { askingProgram, endlessProgram } from '../testing.ts';
import { complete } from './completion.ts';
import { type SpeculateOptions, speculate } from './speculate.ts';

const code = (expected: string) => (error: unknown) => (error as BraidError).code === expected;
const PROMPT = /> $/;

/** What can be compared of a machine. */
async function stateOf(machine: Machine, { position, by, steps, guestTime }: Reached) {
  return { by, position, steps, guestTime, hash: await machine.stateHash(), now: (await machine.stats()).guestSeconds };
}

function listen(machine: Machine): { text: string } {
  const heard = { text: '' };
  machine.onConsole((bytes) => {
    heard.text += Buffer.from(bytes).toString();
  });
  return heard;
}

const line = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 12 }).map((text) => `${text}\n`);
const round = fc.record({
  guesses: fc.array(line, { maxLength: 3 }),
  /** One of the guesses, or another line. */
  answer: fc.oneof(fc.nat(2), line),
  /** What the clones have for it, in ms; and steps. */
  delay: fc.constantFrom(0, 0, 1, 20),
  budget: fc.constantFrom(1n, 3000n, undefined),
});

test('the state and the outputs are those of a machine that got the same answers at the same positions', async () => {
  await using pool = new Pool({ threads: 2 });
  const property = fc.asyncProperty(
    fc.boolean(),
    fc.constantFrom(500, 60_000),
    fc.array(round, { minLength: 1, maxLength: 4 }),
    async (sleeps, work, rounds) => {
      const options = { bare: askingProgram({ work, sleeps }), memory: '32M', seed: 3n, pool };
      await using guessed = await Machine.create(options);
      await using plain = await Machine.create(options);
      const [heard, expected] = [listen(guessed), listen(plain)];
      const until = sleeps ? ({ idle: true } as const) : { console: PROMPT };
      const on = sleeps ? ('idle' as const) : { console: PROMPT };
      await complete(plain, { ...until, hold: true });
      for (const [n, { guesses, answer: choice, delay, budget }] of rounds.entries()) {
        const answer = typeof choice === 'string' ? choice : (guesses[choice] ?? 'none\n');
        const ahead = budget === undefined ? {} : { budget: { steps: budget } };
        const here: SpeculateOptions = { ...(n === 0 ? { on } : {}), guesses, until, ...ahead };
        const speculation = await speculate(guessed, here);
        if (delay > 0) await later(delay);
        const result = await speculation.answer(answer);
        assert.equal(result.hit, guesses.includes(answer));
        assert.equal(result.adopted, result.hit);
        assert.equal(result.failure, undefined);
        await plain.type(answer);
        const reached = (await complete(plain, until)) as Reached;
        assert.deepEqual(await stateOf(guessed, result.reached), await stateOf(plain, reached));
        assert.equal(heard.text, expected.text);
      }
      assert.ok(pool.memory.used > 0);
    },
  );
  await fc.assert(property, runs(15));
});

test('the clone that was right has made its steps before the answer comes; the others are gone', async () => {
  await using pool = new Pool({ threads: 1 });
  await using machine = await Machine.create({ bare: askingProgram({ work: 500_000 }), memory: '32M', seed: 1n, pool });
  const heard = listen(machine);
  const result = await speculate(machine, {
    on: { console: PROMPT },
    guesses: async (waited) => [waited.by === 'console' ? `${waited.match}\n` : '', 'b\n', 'b\n', 'c\n'],
    answer: async () => {
      await later(1000);
      assert.equal(heard.text, '> ', 'what clones say is held back');
      return 'b\n';
    },
  });
  assert.deepEqual([result.hit, result.guess, result.adopted], [true, 1, true]);
  assert.ok(result.stepsSaved > 2_000_000n, `${result.stepsSaved} steps`);
  assert.equal(result.stepsSaved, result.reached.steps, 'there was nothing left to do');
  assert.match(heard.text, /^> [a-p]\n> $/);
  const { used } = pool.memory;
  await using alone = await Machine.create({ bare: askingProgram(), memory: '32M', pool });
  await alone.dispose();
  assert.equal(pool.memory.used, used);
});

test('a clone stops within its budget', async () => {
  await using machine = await Machine.create({ bare: askingProgram({ work: 500_000 }), memory: '32M', seed: 1n });
  const speculation = await speculate(machine, { on: 'idle', guesses: ['b\n'], budget: { guestTime: 5000n } });
  await later(100);
  const { stepsSaved, adopted } = await speculation.answer('b\n');
  assert.ok(adopted && stepsSaved >= 4000n && stepsSaved <= 5000n, `${stepsSaved} steps`);
});

test('an answer that ends the machine', async () => {
  for (const guesses of [['q'], ['x']]) {
    await using machine = await Machine.create({ bare: askingProgram(), memory: '32M', seed: 1n });
    const over = new Promise((resolve) => machine.on('exit', resolve));
    const { hit, reached } = await speculate(machine, { on: 'idle', guesses, answer: () => 'q' });
    assert.equal(hit, guesses[0] === 'q');
    assert.deepEqual(reached.by === 'exit' && reached.exit, { kind: 'poweroff', code: 0 });
    await over;
    await assert.rejects(speculate(machine, { guesses }), code('ERR_BRAID_EXITED'));
  }
});

test('a wait that is given up: the machine stands where it waits, and an answer can still come', async () => {
  await using machine = await Machine.create({ bare: askingProgram(), memory: '32M', seed: 1n });
  const giveUp = new AbortController();
  const speculation = await speculate(machine, { on: 'idle', guesses: ['a\n'], signal: giveUp.signal });
  giveUp.abort();
  await assert.rejects(speculation.answer('a\n'), code('ERR_BRAID_OPTION'));
  const failed = new Error('no answer');
  const answer = () => Promise.reject(failed);
  await assert.rejects(speculate(machine, { guesses: ['a\n'], answer }), failed);
  assert.deepEqual((await machine.pause()).step, 0);
  assert.equal((await speculate(machine, { guesses: ['a\n'], answer: () => 'a\n' })).hit, true);

  await using endless = await Machine.create({ bare: endlessProgram('quiet'), memory: '32M' });
  const never = speculate(endless, { on: 'idle', guesses: ['a'], signal: AbortSignal.timeout(50) });
  await assert.rejects(never, { name: 'TimeoutError' });
});

test('a clone that cannot be made: the machine goes the way itself', async () => {
  await using pool = new Pool({ threads: 1, memory: 16 * 2 ** 20 });
  await using machine = await Machine.create({ bare: askingProgram(), memory: '64M', seed: 1n, pool });
  await complete(machine, { idle: true });
  const others = { bare: new Uint8Array(12.5 * 2 ** 20).fill(1), memory: '64M', pool };
  await using _other = await Machine.create(others);
  const speculation = await speculate(machine, { guesses: ['a\n'] });
  const { hit, adopted, failure, reached } = await speculation.answer('a\n');
  assert.deepEqual([hit, adopted, failure?.code, reached.by], [true, false, 'ERR_BRAID_POOL_FULL', 'idle']);
});

test('guesses from what was answered before', async () => {
  await using machine = await Machine.create({ bare: askingProgram(), memory: '32M', seed: 1n });
  await machine.watchWaits({ threshold: 5_000_000n });
  await complete(machine, { idle: true });
  for (const answer of ['a\n', 'b\n', 'a\n', 'a\n', 'a\n', 'a\n', 'a\n', 'a\n']) {
    const given = async () => {
      await later(10);
      return answer;
    };
    await speculate(machine, { guesses: [answer, 'c\n'], answer: given });
  }
  const { proposals, expected } = await machine.waits();
  assert.deepEqual(
    proposals.map(({ prompt, guesses }) => [prompt, guesses.map((bytes) => Buffer.from(bytes).toString())]),
    [['>', ['a\n']]],
  );
  assert.equal(expected?.prompt, '>');
  const speculation = await speculate(machine, { auto: true });
  const result = await speculation.answer('a\n');
  assert.deepEqual([result.hit, result.adopted], [true, true]);
});

/** Says what it has read, works on it for a while, and asks for more. */
const ASKING = `n=0; printf 'more? '; while read -r word; do
  n=$((n + 1)); echo "$n: $word"; i=0; while [ $i -lt 300 ]; do i=$((i + 1)); done; sleep 0.02; echo err >&2; printf 'more? '
done; echo over; exit 7`;

test('the input of programs: pipes and terminals', { skip: guestMissing }, async (t) => {
  await using guessed = await Machine.create({ seed: 7n, memory: '128M' });
  await using plain = await Machine.create({ seed: 7n, memory: '128M' });
  await Promise.all([guessed.boot(), plain.boot()]);

  for (const terminal of [undefined, { columns: 80, rows: 25 }]) {
    await t.test(terminal ? 'a terminal' : 'a pipe', async () => {
      const start = (machine: Machine) => {
        const how = terminal ? { terminal } : ({ input: 'stream' } as const);
        const program = machine.spawn(['sh', '-c', ASKING], how);
        const said = Promise.all([new Response(program.stdout).text(), new Response(program.stderr).text()]);
        return { program, said };
      };
      const output = /more\? $/;
      const until = (program: Program) => ({ output: { program, pattern: output } });
      const other = start(plain);
      await complete(plain, { ...until(other.program), hold: true });
      // Asked for at once: a program runs from its start on.
      const one = start(guessed);
      const on = { program: one.program, output };
      const rounds: [string, string[], boolean][] = [
        ['yes\n', ['no\n', 'yes\n'], true],
        ['else\n', ['no\n', 'yes\n'], false],
        ['one\ntwo\n', ['one\ntwo\n'], true],
        [`${'x'.repeat(2000)}\n`, ['no\n', `${'x'.repeat(2000)}\n`], true],
      ];
      for (const [n, [answer, guesses, hit]] of rounds.entries()) {
        const more = { until: until(one.program), hold: true };
        // A wait that is known already is named without what it would print.
        const here = n === 0 ? on : { program: one.program, now: true as const };
        const speculation = await speculate(guessed, { on: here, guesses, ...more });
        if (n % 2 === 0) await later(50);
        const result = await speculation.answer(answer);
        assert.deepEqual([result.hit, result.adopted, result.failure], [hit, hit, undefined]);
        const typed = plain.typeInto(other.program, answer);
        const reached = (await complete(plain, { ...until(other.program), hold: true })) as Reached;
        await typed;
        assert.deepEqual(await stateOf(guessed, result.reached), await stateOf(plain, reached));
      }
      const ends = [one, other].map(({ program }) => {
        const writer = program.stdin.getWriter();
        return terminal ? writer.write('\x04') : writer.close();
      });
      await Promise.all([guessed.resume(), plain.resume(), ...ends]);
      assert.deepEqual(await one.said, await other.said);
      assert.deepEqual(
        [await one.program.exited, (await other.program.exited).exitCode],
        [await other.program.exited, 7],
      );
    });
  }

  await t.test('the console of a guest', async () => {
    const prompt = /# /;
    const expected = listen(plain);
    const heard = listen(guessed);
    await plain.type('\n');
    await complete(plain, { console: prompt });
    await guessed.type('\n');
    const { hit, reached } = await speculate(guessed, {
      on: { console: prompt },
      guesses: ['uname\n', 'echo $((6 * 7))\n'],
      until: { console: prompt },
      answer: () => 'echo $((6 * 7))\n',
    });
    assert.ok(hit);
    await plain.type('echo $((6 * 7))\n');
    const there = (await complete(plain, { console: prompt })) as Reached;
    assert.deepEqual(await stateOf(guessed, reached), await stateOf(plain, there));
    assert.equal(heard.text, expected.text);
    assert.match(heard.text, /42/);
  });
});
