/** Debian's gdb on live machines, scripted: a bare program, the guest's kernel by its symbols, a program of the guest. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseKallsyms, symbolFile } from '@braid/core/gdb/symbol-file.ts';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { type GdbListener, Machine } from '../index.ts';
import { temporaryFolder } from '../testing.ts';
import { compile, gdb, missing, SQUARES, WALK } from './testing.ts';

/** A debugger has the machine. */
function once(server: GdbListener): Promise<void> {
  return new Promise((resolve) => {
    server.onAttach = resolve;
  });
}

test('a bare program', { skip: missing('gdb-multiarch', 'riscv64-unknown-elf-gcc') }, async (t) => {
  const { path, bytes } = compile(
    temporaryFolder((done) => t.after(done)),
    'bare',
    SQUARES,
    'bare',
  );
  await using machine = await Machine.create({ bare: bytes, harts: 2 });
  await using server = await machine.gdb();

  await t.test('breakpoints, steps, registers, memory, watchpoints', async () => {
    const text = await gdb(
      [
        server.remote,
        'break square',
        'continue',
        'info threads',
        'backtrace',
        'finish',
        'delete',
        'next',
        'next',
        'print total',
        'watch total',
        'continue',
        'print total',
        'delete',
        'printf "half %g\\n", half',
        'info registers priv',
        'print $mhartid',
        'hbreak run',
        'stepi',
        'x/2i $pc',
        'set var total = 1000',
        'print total',
        'print square(12)',
        'find &total, +64, (char)0xe8, (char)3',
        'monitor when',
        'detach',
      ],
      path,
    );
    assert.match(text, /hit Breakpoint 1, square \(n=1\)/);
    assert.match(text, /\* 1 +Thread 1 "hart 0" square \(n=1\)/);
    assert.match(text, /2 +Thread 2 "hart 1"/);
    assert.match(text, /#1 +0x[0-9a-f]+ in run \(\)/);
    assert.match(text, /Value returned is \$1 = 1\n/);
    assert.match(text, /Hardware watchpoint 2: total\n+Old value = 1\nNew value = 5\n/);
    assert.match(text, /half 1\.5\n/);
    assert.match(text, /priv +0x3\s+prv:3 \[Machine\]/);
    assert.match(text, /= 1000\n/);
    assert.match(text, /= 144\n/);
    assert.match(text, /<total>\n1 pattern found/);
    assert.match(text, /position 0:0:\d+/);
  });

  await t.test('a step of the other hart', async () => {
    const before = await machine.stats();
    await gdb([server.remote, 'thread 2', 'stepi', 'stepi'], path);
    const after = await machine.stats();
    assert.equal(after.perHart[1]!.steps, before.perHart[1]!.steps + 2n);
  });

  await t.test('physical memory, by an option of the session', async () => {
    const text = await gdb([server.remote, 'monitor physical on', 'x/1gx &total', 'monitor nonsense'], path);
    assert.match(text, /addresses are guest-physical/);
    assert.match(text, /<total>:\t0x/);
    assert.match(text, /there is no command nonsense/);
  });
});

test('the guest', { skip: guestMissing || missing('gdb-multiarch') }, async (t) => {
  const folder = temporaryFolder((done) => t.after(done));
  await using machine = await Machine.create({ seed: 7n });
  await machine.boot();
  const kernel = join(folder, 'kernel.elf');
  const symbols = parseKallsyms((await machine.exec(['cat', '/proc/kallsyms'])).stdout);
  writeFileSync(kernel, symbolFile(symbols));

  await t.test('its kernel, by the names in /proc/kallsyms', async () => {
    await using server = await machine.gdb();
    // While gdb is there the guest runs for it only, and the command waits.
    const running = once(server).then(() => machine.exec(['cat', '/proc/version']));
    const text = await gdb(
      [
        server.remote,
        'hbreak *do_sys_openat2',
        'continue',
        'info registers priv',
        'x/s $a1',
        'x/i $pc',
        'delete',
        'finish',
        'detach',
      ],
      kernel,
    );
    assert.match(text, /Breakpoint 1, 0x[0-9a-f]+ in do_sys_openat2 \(\)/);
    assert.match(text, /prv:1 \[Supervisor\]/);
    assert.match(text, /=> 0x[0-9a-f]+ <do_sys_openat2>:/);
    assert.match(text, /0x[0-9a-f]+ in __riscv_sys_openat \(\)/);
    assert.match((await running).stdout, /^Linux version/);
  });

  await t.test('its tasks, as threads', async () => {
    await using server = await machine.gdb({ tasks: true });
    const text = await gdb(
      [server.remote, 'info threads', 'thread find kthreadd', 'thread 2', 'x/i $pc', 'print $a0', 'stepi', 'detach'],
      kernel,
    );
    assert.match(text, /\* 1 +Thread 1 "hart 0: /);
    assert.match(text, /Thread 10000002 "kthreadd \(2\)" +0x[0-9a-f]+ in __schedule \(\)/);
    assert.match(text, /Thread \d+ has target name 'kthreadd \(2\)'/);
    assert.match(text, /=> 0x[0-9a-f]+ <__schedule\+\d+>:/);
    assert.match(text, /<unavailable>/);
    assert.match(text, /does not run, and cannot be stepped/);
  });

  const user = { skip: missing('riscv64-linux-gnu-gcc') };
  await t.test('a program of it, with lines and variables', user, async () => {
    const { path, bytes } = compile(folder, 'program', WALK, 'linux');
    await machine.writeFile('/tmp/program', bytes);
    await machine.exec(['chmod', '+x', '/tmp/program']);
    await using server = await machine.gdb();
    const running = once(server).then(() => machine.exec(['/tmp/program']));
    const text = await gdb(
      [
        server.remote,
        'hbreak walk',
        'continue',
        'backtrace',
        'print *item',
        'print item->next->name',
        'next',
        'next',
        'next',
        'print sum',
        'watch sum',
        'continue',
        'delete',
        'finish',
        'detach',
      ],
      path,
    );
    assert.match(text, /Breakpoint 1, walk \(item=0x[0-9a-f]+\)/);
    assert.match(text, /#1 +0x[0-9a-f]+ in main \(\) at/);
    assert.match(text, /= \{id = 12, name = 0x[0-9a-f]+ "first"/);
    assert.match(text, /"last"/);
    assert.match(text, /= 12\n/);
    assert.match(text, /Old value = 12\nNew value = 42\n/);
    assert.match(text, /Value returned is \$\d+ = 42/);
    assert.equal((await running).stdout, 'sum 42\n');
  });
});
