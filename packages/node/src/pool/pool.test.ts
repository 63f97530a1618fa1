/** Pools: clones on several threads equal machines that ran alone; threads that die, memory that ends, machines that move. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type BraidError, Machine, Pool } from '../index.ts';
import { setupOf } from '../options.ts';
import { endlessProgram, temporaryFolder } from '../testing.ts';

const quiet = { bare: endlessProgram('quiet'), memory: '32M', seed: 1 } as const;

async function clones(machine: Machine, count: number): Promise<Machine[]> {
  const made = await machine.fork(count);
  return made.map((one) => {
    assert.ok(one instanceof Machine, String(one));
    return one;
  });
}

test('clones on two threads have the same future as their parent, and as a machine that was never forked', async () => {
  await using pool = new Pool({ threads: 2 });
  const machine = await Machine.create({ memory: '96M', seed: 3, pool });
  await machine.boot();
  const family = [machine, ...(await clones(machine, 3))];
  const run = (one: Machine) =>
    one.exec(['sh', '-c', 'i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done; echo $i; ls /proc/self']);
  const results = await Promise.all(family.map(run));
  const hashes = await Promise.all(family.map((one) => one.stateHash()));
  await using alone = await Machine.create({ memory: '96M', seed: 3 });
  await alone.boot();
  const expected = await run(alone);
  for (const result of results) assert.deepEqual(result, expected);
  assert.deepEqual(new Set(hashes), new Set([await alone.stateHash()]));
});

test('a program that was under way at the fork goes on in the clone, and its output comes out when that is adopted', async () => {
  await using machine = await Machine.create({ memory: '96M', seed: 3 });
  await machine.boot();
  const script = 'echo before; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo after; exit 7';
  let heard = '';
  const result = machine.exec(['sh', '-c', script], {
    onStdout: (bytes) => {
      heard += new TextDecoder().decode(bytes);
    },
  });
  while (!heard.includes('before')) await new Promise((resolve) => setTimeout(resolve, 1));
  await machine.pause();
  const [clone] = await clones(machine, 1);
  assert.ok(!heard.includes('after'));
  await clone!.step(200_000_000n);
  assert.ok(!heard.includes('after'), 'the clone sends nothing outside');
  await machine.adopt(clone!);
  const { exitCode } = await result;
  assert.equal(exitCode, 7);
  assert.equal(heard, 'before\nafter\n');
  await assert.rejects(clone!.step(1n), (error: BraidError) => error.code === 'ERR_BRAID_ADOPTED');
});

test('clones are somebody of their own where that is asked for, and exactly their parent where not', async () => {
  await using machine = await Machine.create({ memory: '96M', seed: 3 });
  await machine.boot();
  const uuid = async (one: Machine) => (await one.exec(['cat', '/proc/sys/kernel/random/uuid'])).stdout;
  const [first, second] = await clones(machine, 2);
  assert.equal(await uuid(first!), await uuid(second!));
  const named = await machine.fork(2, (i) => ({ hostname: `branch-${i}`, generation: `run/${i}`, seed: i }));
  const seen = new Set<string>();
  for (const [i, one] of named.entries()) {
    assert.ok(one instanceof Machine, String(one));
    seen.add(await uuid(one));
    assert.equal((await one.exec(['hostname'])).stdout, `branch-${i}\n`);
    assert.equal((await one.exec(['cat', '/run/braid-generation'])).stdout, `run/${i}\n`);
  }
  assert.equal(seen.size, 2, 'their random numbers differ from the first one on');

  await assert.rejects(machine.fork(1, { mac: 'no address' }), { code: 'ERR_BRAID_OPTION' });
});

test('a machine that stood still runs in an idle thread when its own is busy', async () => {
  await using pool = new Pool({ threads: 2 });
  const machine = await Machine.create({ ...quiet, pool });
  await machine.step(1000n);
  const family = [machine, ...(await clones(machine, 3))];
  for (const one of family.slice(0, 3)) await one.run();
  const steps = async (one: Machine) => (await one.stats()).steps;
  const before = await Promise.all(family.map(steps));
  await family[3]!.step(5_000_000n);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const after = await Promise.all(family.map(steps));
  for (let n = 0; n < 3; n++) assert.ok(after[n]! > before[n]!, `machine ${n} runs`);
  assert.equal(after[3], before[3]! + 5_000_000n);
});

test('a fork point can be come back to and forked again, from any thread, until it is disposed of', async () => {
  await using pool = new Pool({ threads: 2 });
  const machine = await Machine.create({ ...quiet, pool });
  await machine.step(1000n);
  const point = await machine.forkPoint();
  const hash = await machine.stateHash();
  for (let n = 0; n < 3; n++) {
    await machine.step(777n);
    assert.notEqual(await machine.stateHash(), hash);
    assert.deepEqual(await machine.reset(point), point.position);
    assert.equal(await machine.stateHash(), hash);
  }
  const again = await Promise.all([point.fork(), point.fork(), point.fork()]);
  for (const one of again) assert.equal(await one.stateHash(), hash);
  await point.dispose();
  await assert.rejects(machine.reset(point), (error: BraidError) => error.code === 'ERR_BRAID_OPTION');
  const other = await Machine.create(quiet);
  await using foreign = await other.forkPoint();
  await assert.rejects(machine.reset(foreign), (error: BraidError) => error.code === 'ERR_BRAID_OPTION');
  await other.dispose();
});

describe('when something ends', () => {
  test('a thread dies: its machines say so, the others go on, and what it held is free again', async () => {
    await using pool = new Pool({ threads: 2 });
    const machine = await Machine.create({ memory: '96M', seed: 3, pool });
    await machine.boot();
    pool.warmUp();
    const family = await clones(machine, 6);
    await using point = await machine.forkPoint();
    const hash = await machine.stateHash();
    const { used } = pool.memory;
    const running = family.map((one) =>
      one.exec(['sh', '-c', 'while :; do dd if=/dev/zero of=/tmp/x bs=4096 count=400 2>/dev/null; done']),
    );
    const outcomes = Promise.allSettled(running);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const lost = await pool.killThread(1);
    assert.ok(lost.length > 0 && lost.length < family.length);
    await pool.recovered();
    const alive = [];
    for (const one of family) {
      try {
        await one.pause();
        alive.push(one);
      } catch (error) {
        assert.equal((error as BraidError).code, 'ERR_BRAID_WORKER');
      }
    }
    assert.equal(alive.length, family.length - lost.length);
    assert.equal(await machine.stateHash(), hash);
    assert.equal((await machine.exec(['echo', 'still here'])).stdout, 'still here\n');
    await machine.reset(point);
    assert.equal(await machine.stateHash(), hash);
    const [fresh] = await clones(machine, 1);
    assert.equal(await fresh!.stateHash(), hash);
    await fresh!.dispose();
    for (const one of family) await one.dispose();
    await outcomes;
    assert.ok(pool.memory.used <= used, `${pool.memory.used} frames are held, ${used} were before`);
  });

  test('the memory of a pool ends: a clear error for who needed it, and siblings go on', async () => {
    await using pool = new Pool({ threads: 2, memory: 72 * 2 ** 20 });
    const machine = await Machine.create({ memory: '64M', seed: 3, pool });
    await machine.boot();
    const family = await clones(machine, 4);
    const full = await Promise.allSettled(
      family.map((one) => one.exec(['dd', 'if=/dev/zero', 'of=/tmp/full', 'bs=1M', 'count=20'])),
    );
    const failures = full.filter((one) => one.status === 'rejected');
    assert.ok(failures.length > 0);
    for (const { reason } of failures) assert.equal(reason.code, 'ERR_BRAID_POOL_FULL');
    for (const one of family) await one.dispose();
    assert.equal((await machine.exec(['echo', 'here'])).stdout, 'here\n');
    const made = await machine.fork(400);
    assert.ok(made.some((one) => one instanceof Machine));
    for (const one of made) {
      if (one instanceof Machine) await one.dispose();
      else assert.equal(one.code, 'ERR_BRAID_POOL_FULL');
    }
  });

  test('the process is killed: what the guest had flushed is there', async (t) => {
    const folder = temporaryFolder((clean) => t.after(clean));
    const path = join(folder, 'disk.img');
    writeFileSync(path, new Uint8Array(4 * 2 ** 20));
    const script = `
      const { Machine } = await import(${JSON.stringify(new URL('../index.ts', import.meta.url).href)});
      const machine = await Machine.create({ disks: [${JSON.stringify(path)}], memory: '96M', seed: 1 });
      await machine.boot();
      const clones = await machine.fork(2);
      await machine.exec(['sh', '-c', 'printf parent | dd of=/dev/vda conv=notrunc,fsync']);
      await clones[0].exec(['sh', '-c', 'printf clone. | dd of=/dev/vda conv=notrunc,fsync']);
      process.stdout.write('flushed');
      await clones[1].run();
      await machine.exec(['sh', '-c', 'while :; do printf PARENT | dd of=/dev/vda bs=1 seek=9000 conv=notrunc; done']);`;
    const program = join(folder, 'victim.mjs');
    writeFileSync(program, script);
    const child = spawn(process.execPath, [program], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()));
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    assert.equal(readFileSync(path)[0], 0, 'the image is as the clones need it');
    await using machine = await Machine.create({ disks: [path], memory: '96M', seed: 1 });
    await machine.boot();
    const { stdout } = await machine.exec(['dd', 'if=/dev/vda', 'bs=6', 'count=1']);
    assert.equal(stdout, 'parent');
  });
});

test('an error in one machine that nothing expected ends that machine, and no other of its thread', async () => {
  await using pool = new Pool({ threads: 1 });
  await using neighbour = await Machine.create({ ...quiet, pool });
  await neighbour.step(1000);
  const hash = await neighbour.stateHash();
  const { used } = pool.memory;
  const link = pool.link();
  const setup = await setupOf(quiet);
  await link.call('create', setup);
  await link.call('step', { steps: 1000n });
  const closed = Promise.withResolvers<unknown>();
  link.on('closed', closed.resolve);
  const waiting = link.call('run', {}).then(() => link.call('wait', {}));
  // As no caller can ask for it: the arguments of `Machine.resize` are checked.
  link.post({ type: 'resize', columns: Number.NaN, rows: 24 });
  await assert.rejects(waiting, { code: 'ERR_BRAID_WORKER', message: /a terminal of NaN/ });
  assert.equal(((await closed.promise) as BraidError).code, 'ERR_BRAID_WORKER');
  await assert.rejects(link.call('stats', {}), { code: 'ERR_BRAID_WORKER' });
  await pool.recovered();
  assert.equal(pool.memory.used, used, 'what it held is free again');
  assert.equal(await neighbour.stateHash(), hash);
  await neighbour.step(1000);
  const another = await Machine.create({ ...quiet, pool });
  await another.step(2000);
  assert.equal(await another.stateHash(), await neighbour.stateHash());
});

test('a thread that does not answer is ended when one of its machines is disposed of: the others hear of it', async () => {
  await using pool = new Pool({ threads: 1 });
  const [first, second] = [await Machine.create({ ...quiet, pool }), await Machine.create({ ...quiet, pool })];
  const step = second.step(1_000_000_000n);
  step.catch(() => {});
  pool.stallThread(0);
  const ended = (error: BraidError) => error.code === 'ERR_BRAID_WORKER' && /did not answer/.test(error.message);
  await assert.rejects(first.dispose(), ended);
  await assert.rejects(step, ended);
  await pool.recovered();
  await using third = await Machine.create({ ...quiet, pool });
  await third.step(1000n);
});
