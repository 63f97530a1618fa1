/** The library: one machine after another in its thread. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { type BraidError, decodeState, encodeState, Machine, type SavedMachine } from './index.ts';
import { echoProgram, endlessProgram, exitProgram, temporaryFolder } from './testing.ts';

const code = (expected: string) => (error: unknown) => (error as BraidError).code === expected;
const linux = { skip: guestMissing };

test('programs, files, streams and the state of a guest', linux, async (t) => {
  await using machine = await Machine.create({ seed: 7n });
  await machine.boot();

  await t.test('exec: output, exit codes, signals, input, environment, folder', async () => {
    const result = await machine.exec(['sh', '-c', 'echo out; echo err >&2; exit 3']);
    assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['out\n', 'err\n', 3]);
    assert.ok(result.steps > 0n);
    const killed = await machine.exec(['sh', '-c', 'kill -9 $$']);
    assert.deepEqual([killed.exitCode, killed.signal], [137, 9]);
    assert.equal((await machine.exec(['cat'], { input: 'given' })).stdout, 'given');
    const where = await machine.exec(['sh', '-c', 'echo $X; pwd'], { env: { X: 'y z' }, cwd: '/tmp' });
    assert.equal(where.stdout, 'y z\n/tmp\n');
    const terminal = await machine.exec(['stty', 'size'], { terminal: { columns: 91, rows: 17 } });
    assert.equal(terminal.stdout.trim(), '17 91');
    await assert.rejects(machine.exec(['no-such-program']), code('ERR_BRAID_AGENT'));
  });

  await t.test('idle time is jumped over while a call waits', async () => {
    const { guestSeconds } = await machine.stats();
    const from = performance.now();
    await machine.exec(['sleep', '1000']);
    assert.ok((await machine.stats()).guestSeconds > guestSeconds + 1000);
    assert.ok(performance.now() - from < 60_000);
  });

  await t.test('streams of a program', async () => {
    const program = machine.spawn(['tr', 'a-z', 'A-Z'], { input: 'stream' });
    const writer = program.stdin.getWriter();
    await writer.write('first ');
    await writer.write('second');
    await writer.close();
    assert.equal(await new Response(program.stdout).text(), 'FIRST SECOND');
    assert.equal((await program.exited).exitCode, 0);
  });

  await t.test('files', async () => {
    const content = Uint8Array.from({ length: 200_000 }, (_, i) => (i * 7) & 0xff);
    await machine.writeFile('/tmp/file', content);
    assert.deepEqual(new Uint8Array(await machine.readFile('/tmp/file')), content);
    await assert.rejects(machine.readFile('/tmp/file', { limit: 1000 }), code('ERR_BRAID_AGENT'));
    await assert.rejects(machine.readFile('/tmp/none'), code('ERR_BRAID_AGENT'));
  });

  await t.test('a program that writes too much', async () => {
    await assert.rejects(machine.exec(['yes'], { maxOutput: 100_000 }), code('ERR_BRAID_OUTPUT_LIMIT'));
    assert.equal((await machine.exec(['echo', 'alive'])).stdout, 'alive\n');
  });

  await t.test('abort', async () => {
    const wait = machine.exec(['sleep', '1000000000'], { signal: AbortSignal.timeout(50) });
    await assert.rejects(wait, (error: Error) => error.name === 'TimeoutError');
    await assert.rejects(machine.exec(['true'], { signal: AbortSignal.abort() }), { name: 'AbortError' });
    assert.equal((await machine.exec(['pidof', 'sleep'])).stdout, '');
  });

  await t.test('a program ends with all that it has started, in sessions of their own too', async () => {
    const script = ['sh', '-c', '(setsid sleep 1000000 &); setsid sleep 1000000 & echo started; exec sleep 1000000'];
    const processes = async () => (await machine.exec(['sh', '-c', 'pidof sleep | wc -w'])).stdout.trim();
    const program = machine.spawn(script);
    for await (const _ of program.stdout) break;
    assert.equal(await processes(), '3');
    await program.killAll();
    assert.equal((await program.exited).signal, 9);
    assert.equal(await processes(), '0');
    await assert.rejects(program.killAll(), code('ERR_BRAID_AGENT'));
    const controller = new AbortController();
    const wait = machine.exec(script, { signal: controller.signal, onStdout: () => controller.abort() });
    await assert.rejects(wait, { name: 'AbortError' });
    assert.equal(await processes(), '0');
    assert.equal((await machine.exec(['sh', '-c', 'ls -d /sys/fs/cgroup/braid-* | wc -l'])).stdout.trim(), '1');
    assert.equal((await machine.exec(['echo', 'alive'])).stdout, 'alive\n');
  });

  await t.test('the console', async () => {
    const reader = machine.console.readable.getReader();
    const writer = machine.console.writable.getWriter();
    let text = '';
    const seen = (async () => {
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += Buffer.from(part.value).toString();
        if (text.includes('answer 42')) return;
      }
    })();
    const found = machine.runUntil({ pattern: 'answer 42' });
    await writer.write('echo answer $((6 * 7))\n');
    await found;
    await seen;
  });

  await t.test('a saved machine goes on as the first one does', async () => {
    const bytes = encodeState(await machine.save());
    await using other = await Machine.restore(decodeState(bytes) as unknown as SavedMachine);
    assert.equal(await other.stateHash(), await machine.stateHash());
    assert.equal((await other.exec(['cat', '/proc/sys/kernel/ostype'])).stdout, 'Linux\n');
    const again = await machine.exec(['cat', '/proc/sys/kernel/ostype']);
    assert.equal(again.stdout, 'Linux\n');
  });

  await t.test('power off ends every other wait', async () => {
    const sleeping = machine.exec(['sleep', '1000000']);
    const exited = new Promise((resolve) => machine.on('exit', resolve));
    await Promise.all([machine.shutdown(), assert.rejects(sleeping)]);
    assert.deepEqual(await exited, { kind: 'poweroff', code: 0 });
    await assert.rejects(machine.exec(['true']), code('ERR_BRAID_EXITED'));
    assert.deepEqual(await machine.wait(), { kind: 'poweroff', code: 0 });
  });
});

test('the same calls with the same seed take a machine through the same states', linux, async () => {
  const run = async () => {
    await using machine = await Machine.create({ seed: 5n, harts: 2 });
    const hashes: string[] = [];
    await machine.boot();
    hashes.push(await machine.stateHash());
    const [a, b] = await Promise.all([machine.exec(['sh', '-c', 'sleep 1; date']), machine.exec(['uname'])]);
    hashes.push(a.stdout, b.stdout, await machine.stateHash());
    await machine.writeFile('/tmp/x', 'x');
    hashes.push(await machine.stateHash(), String((await machine.stats()).steps));
    return hashes;
  };
  const first = await run();
  assert.deepEqual(await run(), first);
  assert.deepEqual(await Promise.all([run(), run()]), [first, first]);
});

test("wall time: the guest's clock goes with the host's", linux, async () => {
  await using machine = await Machine.create({ time: 'wall' });
  await machine.boot();
  const from = performance.now();
  await machine.exec(['sleep', '0.5']);
  const slept = performance.now() - from;
  assert.ok(slept > 450 && slept < 5000, `${slept} ms`);
  const { stdout } = await machine.exec(['date', '+%s']);
  assert.ok(Math.abs(Number(stdout) - Date.now() / 1000) < 5, stdout);
  await machine.run();
  const before = (await machine.stats()).hostSeconds;
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.ok((await machine.stats()).hostSeconds - before < 0.2, 'an idle machine costs nothing');
});

test(
  'wall time: a machine that stood still is brought forward, and so are its clones and what is restored of it',
  linux,
  async () => {
    /** Seconds that the guest's clock is behind the host's. */
    const late = async (one: Machine) => {
      const { stdout } = await one.exec(['date', '+%s']);
      return Date.now() / 1000 - Number(stdout);
    };
    await using machine = await Machine.create({ memory: '64M', time: 'wall' });
    await machine.boot();
    const start = await late(machine);
    const fork = machine.fork(2, (n) => ({ time: n === 0 ? 'wall' : 'virtual' }));
    const [clone, virtual] = (await fork) as Machine[];
    const saved = await machine.save();
    await machine.pause();
    await new Promise((resolve) => setTimeout(resolve, 4000));
    assert.ok((await late(clone!)) < start + 2, 'a clone that runs later');
    assert.ok((await late(machine)) < start + 2, 'a machine after a pause');
    await using restored = await Machine.restore(saved, { time: 'wall' });
    assert.ok((await late(restored)) < start + 2, 'a machine that was saved before');
    // In virtual time nothing is brought forward; switched to wall time it goes on from where it is.
    assert.ok((await late(virtual!)) > start + 3);
    await virtual!.setTime('wall');
    assert.ok((await late(virtual!)) > start + 3);
    // One that is ahead of the host does not wait for it.
    await virtual!.setTime('virtual');
    await virtual!.exec(['sleep', '3600']);
    await virtual!.setTime('wall');
    assert.ok((await late(virtual!)) < -3000);
  },
);

test('time is switched while the machine runs', async () => {
  await using machine = await Machine.create({ bare: endlessProgram('quiet'), memory: '32M', time: 'wall' });
  await machine.run();
  for (let n = 0; n < 20; n++) {
    await machine.setTime(n % 2 === 0 ? 'virtual' : 'wall');
    const { steps } = await machine.stats();
    while ((await machine.stats()).steps === steps) await new Promise((resolve) => setTimeout(resolve, 1));
  }
});

test('exact stops: steps, positions, pause', async () => {
  await using machine = await Machine.create({ bare: endlessProgram('quiet'), memory: '32M', seed: 1n });
  assert.deepEqual(await machine.step(5n), { round: 0n, hart: 0, step: 5 });
  assert.deepEqual(await machine.runUntil({ steps: 1_100_000n }), { round: 1n, hart: 0, step: 100_000 });
  const position = { round: 7n, hart: 0, step: 12 };
  assert.deepEqual(await machine.runUntil({ position }), position);
  await assert.rejects(machine.runUntil({ steps: 1n }), code('ERR_BRAID_POSITION'));
  await machine.run();
  await new Promise((resolve) => setTimeout(resolve, 30));
  const stopped = await machine.pause();
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.deepEqual((await machine.stats()).position, stopped);
});

test('a flood on the console stays within bounds', async () => {
  await using machine = await Machine.create({ bare: endlessProgram('flood'), memory: '32M' });
  const reader = machine.console.readable.getReader();
  await machine.run();
  await reader.read();
  await new Promise((resolve) => setTimeout(resolve, 300));
  let steps = 0n;
  for (let before = -1n; steps !== before; ) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    before = steps;
    ({ steps } = await machine.stats());
  }
  assert.ok(steps < 20_000_000n, 'the machine waits for the reader');
  for (let bytes = 0; bytes < 4_000_000; ) bytes += (await reader.read()).value!.length;
  assert.ok((await machine.stats()).steps > steps);
});

test('typed input reaches a bare program, more than fits at once', async () => {
  await using machine = await Machine.create({ bare: echoProgram(), memory: '32M' });
  let out = '';
  machine.onConsole((bytes) => {
    out += Buffer.from(bytes).toString();
  });
  await Promise.all([machine.wait({ live: true }), machine.type(`${'abc'.repeat(30_000)}q`)]);
  assert.equal(out, 'bcd'.repeat(30_000));
});

test('ends: tohost, halt, limit of steps', async () => {
  await using failed = await Machine.create({ bare: exitProgram(3, [1, 2]), memory: '32M' });
  assert.deepEqual(await failed.wait(), { kind: 'tohost', code: 3 });
  assert.deepEqual(new Uint32Array((await failed.signature()).slice().buffer), Uint32Array.of(1, 2));
  await using halted = await Machine.create({ bare: endlessProgram('wait'), memory: '32M' });
  await assert.rejects(halted.wait(), code('ERR_BRAID_HALTED'));
  await using limited = await Machine.create({ bare: endlessProgram('quiet'), memory: '32M', maxSteps: 1_234_567n });
  await assert.rejects(limited.wait(), code('ERR_BRAID_MAX_STEPS'));
  assert.equal((await limited.stats()).steps, 1_234_567n);
});

test('disks: files and arrays, read-only ones, and what is refused', linux, async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const path = join(folder, 'disk');
  writeFileSync(path, new Uint8Array(1 << 20));
  const shared = new Uint8Array(new SharedArrayBuffer(4096));
  const disks = [path, shared, { path, readOnly: true }];
  await using machine = await Machine.create({ disks });
  await machine.boot();
  const script =
    'printf hello | dd of=/dev/vda bs=512 seek=3 conv=fsync,notrunc; printf there >/dev/vdb; sync; echo x >/dev/vdc';
  const result = await machine.exec(['sh', '-c', script]);
  assert.notEqual(result.exitCode, 0);
  assert.equal(readFileSync(path).toString('latin1', 1536, 1541), 'hello');
  assert.equal(Buffer.from(shared.slice(0, 5)).toString(), 'there');

  await assert.rejects(Machine.create({ disks: [path] }), code('ERR_BRAID_DISK_LOCKED'));
  await machine.dispose();
  writeFileSync(path, new Uint8Array(1000));
  await assert.rejects(Machine.create({ disks: [path] }), code('ERR_BRAID_FILE'));
  await assert.rejects(Machine.create({ disks: [join(folder, 'none')] }), code('ERR_BRAID_FILE'));
  await assert.rejects(Machine.create({ disks: [new Uint8Array(7)] }), code('ERR_BRAID_OPTION'));
});

test('options that cannot work', async () => {
  const bare = exitProgram(0);
  const cases: [Parameters<typeof Machine.create>[0], string][] = [
    [{ bare, memory: 'much' }, 'ERR_BRAID_OPTION'],
    [{ bare, memory: '1M' }, 'ERR_BRAID_OPTION'],
    [{ bare, harts: 9 }, 'ERR_BRAID_OPTION'],
    [{ bare, seed: 1n << 64n }, 'ERR_BRAID_OPTION'],
    [{ bare, time: 'soon' as 'wall' }, 'ERR_BRAID_OPTION'],
    [{ bare, kernel: bare }, 'ERR_BRAID_OPTION'],
    [{ bare: bare.subarray(0, 100) }, 'ERR_BRAID_BOOT'],
    [{ kernel: '/no/such/kernel' }, 'ERR_BRAID_FILE'],
    [{ kernel: Uint8Array.of(0x1f, 0x8b, 8, 0, 1, 2, 3) }, 'ERR_BRAID_FILE'],
    [{ kernel: new TextEncoder().encode('not a kernel') }, 'ERR_BRAID_BOOT'],
  ];
  for (const [options, expected] of cases) await assert.rejects(Machine.create(options), code(expected), expected);
  await assert.rejects(Machine.restore({} as SavedMachine), code('ERR_BRAID_STATE'));
});

test('a disposed machine', async () => {
  const machine = await Machine.create({ bare: endlessProgram('quiet'), memory: '32M' });
  const wait = assert.rejects(machine.wait(), code('ERR_BRAID_DISPOSED'));
  await machine.dispose();
  await machine.dispose();
  await wait;
  await assert.rejects(machine.stats(), code('ERR_BRAID_DISPOSED'));
});

test('a panic is what the kernel does, and not what a program says', linux, async () => {
  const text = 'Kernel panic - not syncing: VFS';
  const after = [
    'sleep 1',
    'dd if=/dev/zero of=/dev/null bs=1M count=300',
    'n=0; while [ $n -lt 30000 ]; do n=$((n+1)); done',
  ];
  for (const harts of [1, 2]) {
    await using machine = await Machine.create({ memory: '64M', harts, seed: 1 });
    const said: string[] = [];
    machine.on('panic', (message) => said.push(message));
    await machine.boot();
    for (const work of after)
      assert.equal((await machine.exec(['sh', '-c', `echo "an old log: ${text}" >/dev/console; ${work}`])).exitCode, 0);
    const point = await machine.forkPoint();
    // And a real one, after such text; at a reset to before it is forgotten.
    const script = `echo "${text}" >/dev/console; echo c >/proc/sysrq-trigger`;
    await machine.exec(['sh', '-c', 'echo 1 >/proc/sys/kernel/sysrq; echo 0 >/proc/sys/kernel/panic']);
    await assert.rejects(machine.exec(['sh', '-c', script]), code('ERR_BRAID_PANIC'));
    assert.equal(said.length, 1);
    await machine.reset(point);
    assert.equal((await machine.exec(['echo', 'alive'])).stdout, 'alive\n');
    // Powered off by a program that has just said so.
    await machine.exec(['sh', '-c', `echo "${text}" >/dev/console; poweroff -f`]).catch(() => {});
    assert.deepEqual(await machine.wait(), { kind: 'poweroff', code: 0 });
    await point.dispose();
  }
});
