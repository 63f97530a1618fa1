import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { bareMachine, guestMissing, linuxMachine, runSteps } from '../testing/machines.ts';
import { KernelError } from './errors.ts';
import { KernelImage } from './tasks.ts';

/** The default guest at its prompt, and what it prints from then on. */
function guest(harts: number) {
  let output = '';
  const machine = linuxMachine({ harts }, { console: (bytes) => (output += Buffer.from(bytes).toString('latin1')) });
  const until = (text: RegExp) => {
    for (let i = 0; i < 4000 && !text.test(output); i++) runSteps(machine, 500_000);
    assert.match(output, text);
    return output;
  };
  until(/~ ?# /);
  const shell = (line: string, end: RegExp) => {
    output = '';
    machine.input({ kind: 'console', bytes: new TextEncoder().encode(`${line}\n`) });
    return until(end);
  };
  return { machine, shell };
}

test("the symbols found in memory are those of the guest's /proc/kallsyms", { skip: guestMissing }, () => {
  const { machine, shell } = guest(1);
  const { symbols } = KernelImage.find(machine);
  const text = symbols
    .all()
    .map(({ address, type, name }) => `${address.toString(16).padStart(16, '0')} ${type} ${name}\n`)
    .join('');
  const digest = createHash('md5').update(text).digest('hex');
  assert.match(shell('md5sum /proc/kallsyms', /[0-9a-f]{32}/), new RegExp(digest));
  assert.deepEqual(symbols.nearest(symbols.address('__switch_to')! + 4n), { name: '__switch_to', offset: 4n });
  machine.free();
});

for (const harts of [1, 4]) {
  test(`tasks are those that the guest lists, with ${harts} harts`, { skip: guestMissing }, () => {
    const { machine, shell } = guest(harts);
    const kernel = KernelImage.find(machine);
    const listed = shell(
      'sleep 1000 & cd /proc; for p in [0-9]*; do echo "<`head -n 1 $p/comm`>$p"; done; echo en""d',
      /end\r/,
    );
    const theirs = [...listed.matchAll(/<(.*)>(\d+)\r/g)].map(([, comm, pid]) => ({ comm: comm!, pid: Number(pid) }));
    assert.ok(theirs.length > 20);
    const tasks = kernel.tasks();
    // What the kernel tells of its own threads is longer: the work at hand, the name in full.
    for (const { comm, pid } of theirs) {
      const ours = tasks.find((task) => task.pid === pid);
      assert.ok(ours && comm.startsWith(ours.comm), `${pid} ${comm}: ${ours?.comm}`);
    }
    for (const { pid } of tasks) assert.ok(pid === 0 || theirs.some((their) => their.pid === pid), `${pid}`);
    const sleeper = tasks.find(({ comm }) => comm === 'sleep')!;
    assert.deepEqual(
      [sleeper.state & 0xff, sleeper.exitState, sleeper.kernel, sleeper.tgid],
      [1, 0, false, sleeper.pid],
    );
    assert.equal(kernel.symbols.nearest(kernel.saved(sleeper.address)!.ra)?.name, '__schedule');
    for (let hart = 0; hart < harts; hart++) assert.equal(kernel.currentTask(hart)?.comm, `swapper/${hart}`);
    assert.equal(tasks.filter(({ pid }) => pid === 0).length, harts);
    machine.free();
  });
}

test('a machine without a kernel, or one that has just started, has none to look at', { skip: guestMissing }, () => {
  const noKernel = (error: unknown) => error instanceof KernelError && error.reason === 'no-kernel';
  const bare = bareMachine(Uint8Array.of(0x6f, 0, 0, 0));
  assert.throws(() => KernelImage.find(bare), noKernel);
  bare.free();
  const machine = linuxMachine();
  assert.throws(() => KernelImage.find(machine), noKernel);
  runSteps(machine, 3_000_000);
  const types = (error: unknown) => error instanceof KernelError && /let it boot further/.test(error.message);
  assert.throws(() => KernelImage.find(machine), types);
  machine.free();
});
