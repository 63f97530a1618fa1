/** Limits of a program in steps and in guest time: where they end it, what is left of it, and what the command says. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type BraidError, type ExecOptions, Machine } from './index.ts';
import { braid } from './testing.ts';

const BUSY = ['sh', '-c', 'while :; do :; done'];

async function booted(): Promise<Machine> {
  const machine = await Machine.create({ memory: '64M', seed: 7 });
  await machine.boot();
  return machine;
}

/** Where a program was ended, and the hash of the machine there and after another one. */
async function endOf(argv: readonly string[], limits: ExecOptions, kind: string, host: (machine: Machine) => unknown) {
  await using machine = await booted();
  const before = await machine.stats();
  const work = host(machine);
  await assert.rejects(machine.exec(argv, limits), (error: BraidError) => {
    assert.equal(error.code, 'ERR_BRAID_EXEC_LIMIT');
    assert.equal(error.kind, kind);
    assert.match(error.message, kind === 'steps' ? /more than \d+ steps; give maxSteps/ : /give maxGuestTime/);
    return true;
  });
  await work;
  const there = await machine.stats();
  const hash = await machine.stateHash();
  const { stdout, exitCode } = await machine.exec(['sh', '-c', 'pidof sleep yes; echo ok']);
  assert.deepEqual([stdout, exitCode], ['ok\n', 0], 'the program was ended');
  return {
    steps: there.steps - before.steps,
    ns: Math.round((there.guestSeconds - before.guestSeconds) * 1e9),
    hash,
    after: await machine.stateHash(),
  };
}

describe('a limit ends a program at a position that depends on the machine alone', () => {
  const cases: [string, readonly string[], ExecOptions, string][] = [
    ['steps', BUSY, { maxSteps: 5_000_000n }, 'steps'],
    ['guest time, busy', BUSY, { maxGuestTime: 5_000_000 }, 'guestTime'],
    ['guest time, asleep', ['sleep', '1000'], { maxGuestTime: 2_000_000_000n }, 'guestTime'],
    ['the first of both', BUSY, { maxGuestTime: 1e12, maxSteps: 3_000_000 }, 'steps'],
  ];
  for (const [name, argv, limits, kind] of cases)
    test(name, async () => {
      const one = await endOf(argv, limits, kind, () => {});
      // Another rhythm of the host: the run is interrupted again and again.
      const other = await endOf(argv, limits, kind, async (machine) => {
        for (let n = 0; n < 20; n++) await machine.stats();
      });
      assert.deepEqual(one, other);
      if (limits.maxSteps !== undefined)
        assert.ok(
          one.steps >= BigInt(limits.maxSteps) && one.steps < BigInt(limits.maxSteps) + 1_000_000n,
          `${one.steps}`,
        );
    });
});

test('a program within its limits ends as without them', async () => {
  await using machine = await booted();
  await using twin = await booted();
  const limits = { maxSteps: 10n ** 9n, maxGuestTime: 10n ** 9n };
  assert.deepEqual(await machine.exec(['echo', 'a'], limits), await twin.exec(['echo', 'a']));
  assert.equal(await machine.stateHash(), await twin.stateHash());
});

test('spawn, with output that came before; others in the machine run on', async () => {
  await using machine = await booted();
  const other = machine.exec(['sh', '-c', 'sleep 1; echo done']);
  const program = machine.spawn(['sh', '-c', 'echo a; exec sleep 1000'], { maxGuestTime: 500_000_000 });
  const parts: Uint8Array[] = [];
  for await (const part of program.stdout) parts.push(part);
  assert.equal(Buffer.concat(parts).toString(), 'a\n');
  await assert.rejects(program.exited, { code: 'ERR_BRAID_EXEC_LIMIT', kind: 'guestTime' });
  assert.equal((await other).stdout, 'done\n');
});

describe('braid run', () => {
  const cases: [string[], number, RegExp][] = [
    [['--exec-timeout', '2s', '--', 'sleep', '1000'], 124, /--exec-timeout is reached/],
    [['--exec-max-steps', '2M', '--', ...BUSY], 124, /--exec-max-steps is reached/],
    [['--exec-timeout', '10s', '--', 'true'], 0, /^/],
    [['--exec-timeout', '2'], 2, /Give a time with its unit/],
    [['--exec-timeout', '2s'], 2, /add "-- COMMAND"/],
    [['--exec-max-steps', '0', '--', 'true'], 2, /Give 1 or more/],
  ];
  for (const [args, code, message] of cases)
    test(args.join(' '), async () => {
      const outcome = await braid(['run', '--memory', '64M', '--seed', '1', ...args]);
      assert.match(outcome.stderr, message);
      assert.equal(outcome.code, code, outcome.stderr);
    });
});
