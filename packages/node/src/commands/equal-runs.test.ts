/**
 * `braid run` with and without a recording is one run (I4, I6): the same state hash, for 1 to 8 harts that come and go, idle, and wait in
 * storms, wherever the run ends. Keyframes are as frequent as they can be.
 */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { hotplugProgram } from '@braid/core/testing/hotplug-program.ts';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { Machine } from '../machine.ts';
import { braid, temporaryFolder } from '../testing.ts';

/** What a run says at its end, but for what it took of the host. */
async function ending(args: readonly string[]) {
  const { code, stdout, stderr } = await braid(['run', '--json', '--seed', '3', '--time', 'virtual', ...args]);
  const lines = stdout.trimEnd().split('\n');
  const { hostSeconds, mips, ...rest } = JSON.parse(lines.pop()!);
  return { code, lines, ...rest, errors: stderr.split('\n').filter((line) => !line.startsWith('braid: recorded')) };
}

async function compare(folder: string, args: readonly string[]): Promise<void> {
  const file = join(folder, `recording-${Math.random()}`);
  const [plain, recorded] = await Promise.all([
    ending(args),
    ending(['--record', file, '--keyframe-ms', '1', ...args]),
  ]);
  assert.deepEqual(recorded, plain);
  assert.match(plain.stateHash, /^[0-9a-f]{32}$/);
}

describe('recorded and not recorded', () => {
  for (let harts = 1; harts <= 8; harts++) {
    test(`harts that come and go: ${harts}`, async (t) => {
      const folder = temporaryFolder(t.after.bind(t));
      const kernel = join(folder, 'kernel');
      writeFileSync(kernel, hotplugProgram({ harts, rounds: 300, work: 3000 }));
      const args = ['--memory', '64M', '--kernel', kernel, '--harts', String(harts)];
      await compare(folder, args);
      // In the middle of it all.
      if (harts % 3 === 1) await compare(folder, ['--max-steps', String(1_234_567 * harts), ...args]);
    });
  }

  for (const harts of [2, 5]) {
    test(`processors that Linux takes away and back: ${harts}`, { skip: guestMissing }, async (t) => {
      const script = `
        online() { for cpu in /sys/devices/system/cpu/cpu[1-9]; do echo $1 > $cpu/online; done; }
        online 0; sleep 0.3; date; online 1; (sleep 0.2)& (sleep 0.1)& yes | head -n 20000 | wc -l; wait
        cat /sys/devices/system/cpu/online; exit 7`;
      await compare(temporaryFolder(t.after.bind(t)), ['--harts', String(harts), '--', 'sh', '-c', script]);
    });
  }
});

describe('stopped by its host at any time', () => {
  for (const harts of [1, 3, 8]) {
    test(`${harts} harts: paused, hashed, saved, forked and recorded is the same run`, async (t) => {
      const kernel = hotplugProgram({ harts, rounds: 200, work: 3000 });
      const folder = temporaryFolder(t.after.bind(t));
      const run = async (disturbed: boolean) => {
        await using machine = await Machine.create({ kernel, memory: '64M', harts, seed: 3n });
        const over = machine.wait();
        let ended = false;
        over.then(() => {
          ended = true;
        });
        for (let n = 0; disturbed && !ended; n++) {
          await machine.pause();
          const hash = await machine.stateHash();
          if (n % 3 === 0) await machine.save();
          if (n % 3 === 1) await (await machine.forkPoint())[Symbol.asyncDispose]();
          if (n % 3 === 2) await (await machine.record(join(folder, `${n}`))).stop();
          assert.equal(await machine.stateHash(), hash);
          await machine.resume();
        }
        await over;
        return [await machine.stateHash(), (await machine.stats()).guestSeconds];
      };
      assert.deepEqual(await run(true), await run(false));
    });
  }
});
