/** When a machine is complete: the same position every time, whatever was looked at meanwhile. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import type { BraidError } from '../errors.ts';
import { Machine } from '../machine.ts';
import { askingProgram, endlessProgram, LINES_READ } from '../testing.ts';
import { type CompletionOptions, complete } from './completion.ts';

const code = (expected: string) => (error: unknown) => (error as BraidError).code === expected;

test('console, memory, steps, guest time, idle: which it was, and where', async () => {
  const run = async () => {
    await using machine = await Machine.create({ bare: askingProgram({ work: 300_000 }), memory: '32M', seed: 1n });
    const found: unknown[] = [];
    const until = async (options: CompletionOptions) => {
      const { by, position, steps, guestTime } = await complete(machine, options);
      found.push({ by, position, steps, guestTime, hash: await machine.stateHash() });
      return { by, steps, guestTime };
    };
    assert.equal((await until({ idle: true })).by, 'idle');
    await machine.type('a\nb\nc\n');
    assert.deepEqual(await until({ steps: 12_345n, idle: true }), { by: 'steps', steps: 12_345n, guestTime: 12_345n });
    assert.deepEqual(await until({ guestTime: 999, idle: true }), { by: 'guestTime', steps: 999n, guestTime: 999n });
    const memory = { address: LINES_READ, equals: Uint8Array.of(2, 0) };
    assert.equal((await until({ memory, idle: true })).by, 'memory');
    assert.equal(
      (await until({ memory: { address: LINES_READ, differs: Uint8Array.of(2) }, idle: true })).by,
      'memory',
    );
    assert.equal((await until({ idle: true })).by, 'idle');
    await machine.type('d\n');
    assert.equal((await until({ console: /[a-p]\n> $/, idle: true })).by, 'console');
    await machine.type('q');
    assert.equal((await until({})).by, 'exit');
    assert.equal((await until({ steps: 5n })).by, 'exit');
    return found;
  };
  const first = await run();
  assert.deepEqual(await run(), first);
});

test('what makes no sense, and a machine that nothing completes', async () => {
  await using machine = await Machine.create({ bare: endlessProgram('quiet'), memory: '32M' });
  await assert.rejects(complete(machine, { steps: -1n }), code('ERR_BRAID_OPTION'));
  await assert.rejects(complete(machine, { guestTime: 0.5 }), code('ERR_BRAID_OPTION'));
  const memory = { address: LINES_READ, equals: new Uint8Array(0) };
  await assert.rejects(complete(machine, { memory }), code('ERR_BRAID_OPTION'));
  await assert.rejects(complete(machine, { idle: true, signal: AbortSignal.timeout(50) }), { name: 'TimeoutError' });
  assert.equal((await complete(machine, { steps: 10n })).by, 'steps');

  await using agentless = await Machine.create({
    bare: askingProgram({ sleeps: false }),
    memory: '32M',
    maxSteps: 2_000_000n,
  });
  const file = complete(agentless, { file: { path: '/' }, every: 1000n });
  await assert.rejects(file, code('ERR_BRAID_MAX_STEPS'), 'nobody there can say what files there are');
});

test('files and processes of a guest, which does not notice that it is looked at', {
  skip: guestMissing,
}, async (t) => {
  const boot = async () => {
    const machine = await Machine.create({ seed: 7n });
    await machine.boot();
    return machine;
  };
  const script = 'sleep 3; echo half >/tmp/file; sleep 2; echo whole >/tmp/file; sleep 4; exit 5';

  await t.test('a file', async () => {
    await using machine = await boot();
    const program = machine.exec(['sh', '-c', script]);
    const there = await complete(machine, { file: { path: '/tmp/file' }, every: 1_000_000_000n, hold: true });
    assert.deepEqual([there.by, there.guestTime / 1_000_000_000n], ['file', 3n]);
    const matches = (content: Uint8Array | undefined) => Buffer.from(content ?? []).toString() === 'whole\n';
    const whole = await complete(machine, { file: { path: '/tmp/file', matches }, hold: true });
    assert.equal(whole.by, 'file');
    await machine.resume();
    const { exitCode, steps } = await program;
    assert.equal(exitCode, 5);
    await using other = await boot();
    assert.equal((await other.exec(['sh', '-c', script])).steps, steps, 'the guest has made no other steps for it');
  });

  await t.test('processes, and limits while files are looked at', async () => {
    await using machine = await boot();
    const program = machine.spawn(['sh', '-c', 'sleep 1; sleep 2; echo said; exit 3']);
    const sleeping = await complete(machine, {
      process: { name: 'sleep', running: true },
      every: 1_000_000n,
      hold: true,
    });
    assert.equal(sleeping.by, 'process');
    const file = { path: '/nowhere' };
    const limited = await complete(machine, { file, steps: 1000n, hold: true });
    assert.deepEqual([limited.by, limited.steps], ['steps', 1000n]);
    const said = await complete(machine, { file, output: { program, pattern: /s.id/ }, hold: true });
    assert.equal(said.by === 'output' && said.match, 'said');
    const forever = new AbortController();
    const busy = complete(machine, { idle: 1n << 60n, hold: true, signal: forever.signal });
    await assert.rejects(machine.readFile('/nowhere'), code('ERR_BRAID_AGENT'), 'while others keep the machine busy');
    forever.abort();
    await assert.rejects(busy, { name: 'AbortError' });
    const over = await complete(machine, { process: program });
    assert.equal(over.by, 'process');
    assert.equal((await program.exited).exitCode, 3);
  });

  await t.test('processes of any name', async () => {
    await using machine = await boot();
    const names = [
      ['  ', '  '],
      ['', ''],
      ['two\\nlines\\n', 'two\nlines\n'],
      ['\\303\\251 123456789012', 'é 12345678901234567'],
      ['12345678901234\\303', '12345678901234éé'],
    ] as const;
    const script = names.map(([octal]) => `sh -c 'printf "${octal}\\000" >/proc/$$/comm; sleep 100; :' &\n`).join('');
    await machine.exec(['sh', '-c', `{ ${script}} >/dev/null 2>&1; sleep 0.1`]);
    const signal = AbortSignal.timeout(20_000);
    for (const [, name] of names) {
      const named = await complete(machine, { process: { name, running: true }, every: 1_000_000n, signal });
      assert.equal(named.by, 'process', JSON.stringify(name));
    }
  });

  await t.test('a panic', async () => {
    await using machine = await boot();
    const crash = machine.exec(['sh', '-c', 'echo c >/proc/sysrq-trigger']).catch((error: BraidError) => error.code);
    const reached = await complete(machine, { idle: 1_000_000_000_000n });
    assert.match(reached.by === 'panic' ? reached.message : reached.by, /sysrq/);
    assert.equal(await crash, 'ERR_BRAID_PANIC');
  });
});
