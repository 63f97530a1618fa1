import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { bareMachine, guestMissing, linuxMachine, runSteps, runs } from '../testing/machines.ts';
import { asComm } from './comm.ts';
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
    // The kernel's own threads may still have work.
    const idle = () => [...Array(harts).keys()].every((hart) => kernel.currentTask(hart)?.pid === 0);
    for (let i = 0; i < 100 && !idle(); i++) runSteps(machine, 100_000);
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

/** Names that tasks may have, as C has them in octal, and as they are told. */
const NAMES = [
  ['\\303\\251t\\303\\251', 'été'],
  ['', ''],
  ['   ', '   '],
  ['\\377\\376', '\udcff\udcfe'],
  ['\\033[2J\\a', '\x1b[2J\x07'],
  ['\\357\\273\\277b', '\ufeffb'],
  ['two\\nlines', 'two\nlines'],
  // The kernel cuts it after 15 bytes, within a character.
  ['12345678901234\\303\\251', '12345678901234\udcc3'],
] as const;

test('tasks may have any name, or none', { skip: guestMissing }, () => {
  const { machine, shell } = guest(1);
  const lines = NAMES.map(([name]) => `sh -c 'printf "${name}\\000" >/proc/$$/comm; sleep 1000; :' &\n`);
  shell(`${lines.join('')}sleep 1; echo en""d`, /end\r/);
  for (const types of [true, false]) {
    const kernel = KernelImage.find(machine, { types });
    const names = kernel.tasks().map(({ comm }) => comm);
    for (const [, name] of NAMES) assert.ok(names.includes(name), JSON.stringify(name));
    assert.ok(names.includes('kthreadd'));
  }
  machine.free();
});

test('what the kernel makes of a name', () => {
  assert.equal(asComm('sh'), 'sh');
  for (const [, name] of NAMES) assert.equal(asComm(name), name);
  assert.equal(asComm('12345678901234é'), '12345678901234\udcc3');
});

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

test('a kernel whose memory is forged gives an error or tasks, and an end', { skip: guestMissing }, () => {
  const { machine } = guest(1);
  const known = KernelImage.find(machine);
  const { layout, memory } = known;
  const put = (address: bigint, value: bigint) => {
    const bytes = new Uint8Array(BigUint64Array.of(value).buffer);
    const physical = memory.physical(address);
    if (physical !== undefined) machine.ram.write(Number(physical), bytes);
  };
  const look = () => {
    try {
      const kernel = KernelImage.find(machine);
      for (const { address, pid } of kernel.tasks()) assert.ok(pid >= 0 && kernel.saved(address));
    } catch (error) {
      assert.ok(error instanceof KernelError, `${error}`);
    }
  };
  const tasks = known.tasks();
  const link = (n: number) => tasks[n]!.address + BigInt(layout.tasks);
  // A ring that never comes back to where it began: for who knows it already, and for who looks for it.
  const whole = memory.u64(link(9))!;
  put(link(9), link(5));
  assert.ok(known.tasks().length <= tasks.length);
  look();
  put(link(9), whole);
  const places = fc.oneof(
    fc.tuple(fc.constantFrom(...tasks.map(({ address }) => address)), fc.nat(2300)),
    fc.tuple(fc.constant(0xffff_ffff_8040_0000n), fc.nat(1 << 20)),
  );
  const value = fc.oneof(
    fc.constantFrom(...tasks.map(({ address }) => address)),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(places, value), { minLength: 1, maxLength: 20 }), (forged) => {
      const before = forged.map(([[base, offset]]) => base + BigInt(offset & ~7));
      const words = before.map((address) => memory.u64(address)!);
      for (const [i, [, word]] of forged.entries()) put(before[i]!, word);
      look();
      // As it was, last change first.
      for (const [i, address] of [...before.entries()].reverse()) put(address, words[i]!);
    }),
    runs(25),
  );
  assert.equal(KernelImage.find(machine).tasks().length, tasks.length);
  machine.free();
});
