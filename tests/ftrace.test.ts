/**
 * Debian 13's kernel traces its own functions: it patches all of them while it runs. What it has traced is read while it does not
 * trace, since a reader that is traced itself never comes to the end: each of its reads is one more line.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stateHash } from '../packages/core/src/machine/hash.ts';
import { PROMPT, Session } from './lib/session.ts';
import { stockInitrd, stockKernel, stockKernelMissing } from './lib/stock-kernel.ts';

/** Of `function`: task, hart, flags, seconds, the function and its caller. */
const LINE = /^ *\S.*-\d+ +\[\d+\] \S+ +(\d+\.\d+): (\w+) <-(\w+)$/;

async function traced(): Promise<string> {
  using session = new Session({
    boot: { kind: 'linux', kernel: stockKernel(), initrd: stockInitrd(), append: 'console=ttyS0 quiet' },
    memory: 256 * 2 ** 20,
    harts: 2,
    seed: 1n,
  });
  const { machine } = session;
  await session.until(PROMPT, 9e9);
  const shell = async (line: string) => {
    const before = session.output.length;
    session.type(`${line}; echo en""d\n`);
    await session.until(/end\r\n/, 9e9);
    await session.until(/# (\x1b\[6n)?$/, 1e9);
    return session.output.slice(before).split('\r\n');
  };
  await shell('mount -t tracefs t /sys/kernel/tracing; cd /sys/kernel/tracing; echo 0 > tracing_on');
  const count = async (file: string) =>
    Number((await shell(`echo "<"$(wc -l < ${file})">"`)).join().match(/<(\d+)>/)![1]);
  const all = await count('available_filter_functions');
  assert.ok(all > 30_000);

  // All functions are patched; the clock and what is traced agree with the machine's time.
  await shell('echo function > current_tracer');
  assert.equal(await count('enabled_functions'), all);
  const from = machine.now;
  await shell('echo 1 > tracing_on; : < /dev/null; echo 0 > tracing_on');
  const seconds = Number(machine.now - from) / 1e9;
  const lines = await shell('cat trace | tail -n 300');
  const seen = lines.map((line) => LINE.exec(line)).filter((match) => match !== null);
  assert.ok(seen.length > 250, lines.slice(-20).join('\n'));
  const times = seen.map(([, time]) => Number(time));
  assert.ok(times.at(-1)! - times[0]! < seconds);
  assert.ok(seen.some(([, name, caller]) => name!.startsWith('vfs_') || caller!.startsWith('vfs_')));

  // And back: nothing is patched any more, and the kernel works.
  await shell('echo nop > current_tracer');
  assert.equal(await count('enabled_functions'), 0);
  return stateHash(machine);
}

test('the function tracer of a stock kernel works, and takes equal machines through equal states', {
  skip: stockKernelMissing(),
}, async () => {
  assert.equal(await traced(), await traced());
});
