/** The guest that ships, from power-on to power-off, over the serial console. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  decodeState,
  Engine,
  encodeState,
  Pool,
  restoreMachine,
  saveMachine,
  stateHash,
} from '../packages/core/src/index.ts';
import { defaultInitrd, defaultKernel, guestMissing, PROMPT, Session } from './lib/session.ts';

const options = (harts: number, append = 'console=ttyS0 quiet') => ({
  boot: { kind: 'linux', kernel: defaultKernel(), initrd: defaultInitrd(), append } as const,
  memory: 128 * 2 ** 20,
  harts,
  seed: 1n,
});

describe('the default guest', { skip: guestMissing }, () => {
  for (const harts of [1, 4]) {
    test(`${harts} harts: to the prompt, a command, power off`, async () => {
      using session = new Session(options(harts));
      await session.until(PROMPT);
      session.type('echo "it is $((6 * 7)) on $(nproc)"; uname -m\n');
      await session.until(new RegExp(`it is 42 on ${harts}\\r\\nriscv64`));
      await session.until(PROMPT);
      session.type('poweroff\n');
      assert.deepEqual(await session.exit(), { kind: 'poweroff', code: 0 });
    });
  }

  test('reboot ends the machine with that word', async () => {
    using session = new Session(options(1));
    await session.until(PROMPT);
    session.type('reboot\n');
    assert.deepEqual(await session.exit(), { kind: 'reboot', code: 0 });
  });

  test('a kernel that panics reboots or stops; the host goes on', async () => {
    using session = new Session(options(2, 'console=ttyS0 panic=-1 rdinit=/nothing init=/nothing'));
    await session.until(/Kernel panic - not syncing/);
    const exit = await session.exit();
    assert.equal(exit.kind, 'reboot');
  });

  test('saved in the middle of the boot, and gone on with in another pool', async () => {
    using first = new Session(options(2));
    first.machine.run(20e6);
    const bytes = encodeState(saveMachine(first.machine));
    const early = first.output;
    const { position } = first.machine;
    using second = new Session((console) =>
      restoreMachine(new Engine(new Pool()), decodeState(bytes), {}, { console }),
    );
    assert.deepEqual(second.machine.position, position);
    assert.equal(stateHash(second.machine), stateHash(first.machine));
    // As long as nothing comes from outside, which begins with the agent's port, they stay equal.
    for (const { machine } of [first, second]) machine.run(10e6);
    assert.equal(stateHash(second.machine), stateHash(first.machine));
    assert.equal(early + second.output, first.output);
    for (const session of [first, second]) {
      await session.until(PROMPT);
      session.type('poweroff\n');
      assert.equal((await session.exit()).kind, 'poweroff');
    }
  });
});
