/** Steps of a program's threads through all that a kernel does with them, forwards and backwards. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { Machine, Replay } from '../index.ts';
import { temporaryFolder } from '../testing.ts';
import { Client, compile, missing } from './testing.ts';

/**
 * Threads that share memory and, at a `vfork`, a stack: in `work` they meet pages that are not there, call the kernel, are taken off
 * their hart, and get signals on a stack of their own, each of which comes where the last one has come.
 */
const THREADS = `
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile char *pages;
static volatile long counter;
static long call(long number, long a, long b) {
  register long a7 __asm__("a7") = number, a0 __asm__("a0") = a, a1 __asm__("a1") = b;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1) : "memory");
  return a0;
}
void handler(int signal) { counter += signal; }
__attribute__((noinline)) void work(long thread) {
  for (long i = 0; i < 4; i++) {
    pages[(thread * 4 + i) * 4096] = 1;
    call(SYS_getppid, 0, 0);
    call(SYS_sched_yield, 0, 0);
    call(SYS_tkill, call(SYS_gettid, 0, 0), SIGUSR1);
  }
}
__attribute__((noinline)) void forks(void) {
  if (vfork() == 0) _exit(call(SYS_sched_yield, 0, 0));
}
static void *start(void *thread) {
  stack_t stack = {.ss_sp = mmap(0, 65536, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), .ss_size = 65536};
  sigaltstack(&stack, 0);
  work((long)thread);
  return 0;
}
int main(void) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, 0);
  pages = mmap(0, 16 * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pthread_t threads[3];
  for (long i = 0; i < 3; i++) pthread_create(&threads[i], 0, start, (void *)i);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
  forks();
  while (wait(0) > 0) {}
  return counter == 12 * SIGUSR1 ? 0 : 1;
}
`;

const [PC, SSCRATCH] = [32, 65 + 0x140];

/** Where a stop reply says that the program is, and on which hart. */
async function placeOf(client: Client, stop: string | undefined): Promise<{ pc: string; task: string }> {
  assert.match(stop!, /^T05(swbreak:;|hwbreak:;)?thread:/);
  await client.ask('Hg0');
  const [pc, task] = [await client.ask(`p${PC.toString(16)}`), await client.ask(`p${SSCRATCH.toString(16)}`)];
  return { pc: pc!, task: task! };
}

/** So many steps of one thread, with a place for each. */
async function steps(client: Client, packet: 's' | 'bs', count: number): Promise<string[]> {
  const pcs: string[] = [];
  let task: string | undefined;
  for (let n = 0; n < count; n++) {
    const place = await placeOf(client, await client.ask(packet));
    task ??= place.task;
    assert.equal(place.task, task, 'one thread');
    assert.match(place.pc, /^[0-9a-f]{8}[0-3][0-9a-f]0{6}$/, 'in the program');
    pcs.push(place.pc);
  }
  return pcs;
}

const skip = guestMissing || missing('riscv64-linux-gnu-gcc');
for (const harts of [1, 4]) {
  test(`threads, signals, vfork: steps with ${harts} harts`, { skip }, async (t) => {
    const folder = temporaryFolder((done) => t.after(done));
    const file = join(folder, 'recording');
    const { path, bytes } = compile(folder, 'threads', THREADS, 'linux', ['-pthread']);
    const names = spawnSync('riscv64-linux-gnu-nm', [path], { encoding: 'utf8' }).stdout;
    const addressOf = (name: string) => new RegExp(`0*([0-9a-f]+) [tT] ${name}$`, 'm').exec(names)![1]!;
    {
      await using machine = await Machine.create({ seed: 7n, harts });
      await machine.boot();
      await machine.writeFile('/tmp/threads', bytes);
      await machine.exec(['chmod', '+x', '/tmp/threads']);
      await using _ = await machine.record(file);
      assert.equal((await machine.exec(['/tmp/threads'])).exitCode, 0);
    }
    await using replay = await Replay.open(file);
    await using server = await replay.gdb();
    const client = new Client(server);
    await client.ask('QStartNoAckMode');
    const runTo = async (name: string) => {
      await client.ask(`Z0,${addressOf(name)},2`);
      const place = await placeOf(client, await client.ask('c'));
      await client.ask(`z0,${addressOf(name)},2`);
      assert.equal(Buffer.from(place.pc, 'hex').readBigUInt64LE(), BigInt(`0x${addressOf(name)}`));
      return place.pc;
    };
    const inHandler = (pc: string) => Buffer.from(pc, 'hex').readBigUInt64LE() === BigInt(`0x${addressOf('handler')}`);

    // A thread's whole work, with its four signals, and back to where it began.
    const count = harts === 1 ? 500 : 200;
    const first = await runTo('work');
    const forwards = await steps(client, 's', count);
    assert.ok(forwards.filter(inHandler).length >= (harts === 1 ? 4 : 1));
    assert.deepEqual(await steps(client, 'bs', count), [first, ...forwards.slice(0, -1)].reverse());

    // Its very first instruction has nothing before it.
    if (harts === 1) {
      let stop = await client.ask('bs');
      for (let n = 0; n < 3000 && !stop!.startsWith('T05replaylog'); n++) stop = await client.ask('bs');
      assert.match(stop!, /^T05replaylog:begin;/);
      const { at } = replay;
      assert.ok(at > 0n);
      assert.match((await client.ask('bs'))!, /^T05replaylog:begin;/);
      assert.equal(replay.at, at);
    }

    // A signal's handler begins behind the call that had it sent.
    const handler = await runTo('handler');
    const [sender] = await steps(client, 'bs', 1);
    assert.deepEqual(await steps(client, 's', 1), [handler]);
    assert.notEqual(sender, handler);

    // The child of a `vfork` has the parent's memory and stack.
    const start = await runTo('forks');
    const through = await steps(client, 's', 60);
    assert.deepEqual(await steps(client, 'bs', 60), [start, ...through.slice(0, -1)].reverse());
    client.socket.destroy();
    await client.closed;
  });
}
