/** Branches that guest programs ask for, from a shell and from C, on the default guest. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Worker } from 'node:worker_threads';
import { guestMissing } from '@braid/core/testing/machines.ts';
import { type BraidError, type Branching, type BranchOptions, type Choice, Machine, Pool } from '../index.ts';
import { temporaryFolder } from '../testing.ts';

const COMPILER = 'riscv64-linux-gnu-gcc';
const QUOTA = 1000;
const HINTS = { branch: QUOTA, result: QUOTA, done: QUOTA, take: QUOTA, mark: QUOTA };
const code = (expected: string) => (error: unknown) => (error as BraidError).code === expected;

/** A booted machine whose branches are heard, and what it has told. */
async function listening(options: BranchOptions = {}, create: Parameters<typeof Machine.create>[0] = {}) {
  const machine = await Machine.create({ seed: 3n, memory: '64M', hints: HINTS, ...create });
  await machine.boot();
  const heard: Branching[] = [];
  const refused: string[] = [];
  const branches = await machine.branches({
    ...options,
    onBranching: (one) => {
      heard.push(one);
      options.onBranching?.(one);
    },
    onRefused: ({ message }) => refused.push(message),
  });
  return { machine, branches, heard, refused, [Symbol.asyncDispose]: () => machine.dispose() };
}

const sh = (machine: Machine, script: string) => machine.exec(['sh', '-c', script]);
const first = ({ heard }: { readonly heard: readonly Branching[] }): Branching => heard[0]!;

/** Waits until all clones are complete, and chooses. */
const chooses = (choice: Choice) => async (branching: Branching) => {
  await Promise.all(branching.branches.map(({ completed }) => completed));
  return choice;
};

const WORK = `
  i=$(braid branch 4)
  if [ "$i" -gt 0 ]; then
    seq "$i" 20000 >/tmp/out; braid result /tmp/out; braid done "$i"; echo "done $?"
  fi
  [ "$i" = 0 ] || echo "after $i"`;

describe('from a shell', { skip: guestMissing }, () => {
  test('the original takes what a clone gave; the program that the caller waits for is one and the same', async () => {
    await using all = await listening();
    const { machine, pool } = { machine: all.machine, pool: all.machine.pool };
    const { stdout, exitCode } = await sh(
      machine,
      `${WORK}; braid take 3 >/tmp/got || echo "not taken"; head -n 1 /tmp/got; wc -l </tmp/got; ls /tmp/out`,
    );
    assert.equal(stdout, '3\n19998\n');
    assert.equal(exitCode, 1);
    assert.deepEqual(await first(all).result, { index: 3, how: 'copy' });
    assert.deepEqual(await first(all).branches[2]!.completed, { kind: 'done', status: 3 });
    for (const { machine: clone } of first(all).branches)
      await assert.rejects(clone!.stats(), code('ERR_BRAID_DISPOSED'));
    const { used } = pool.memory;
    assert.ok(used < 2 * (64 << 8), `${used} frames are held by one machine of 64 MiB`);
    assert.deepEqual(all.refused, []);
  });

  test('the original becomes a clone: its files, its output, the program in flight', async () => {
    await using all = await listening();
    const { stdout, exitCode } = await sh(all.machine, `${WORK}; braid adopt 2; echo "take $?"; head -n 1 /tmp/out`);
    assert.equal(stdout, 'done 0\nafter 2\ntake 1\n2\n');
    assert.equal(exitCode, 0);
    assert.deepEqual(await first(all).result, { index: 2, how: 'adopt' });
    assert.equal((await sh(all.machine, 'wc -l </tmp/out')).stdout, '19999\n');
    assert.match(all.refused.join(), /nothing to take/);
  });

  test('the host says how a branch is taken', async () => {
    await using all = await listening({ take: 'adopt' });
    assert.equal((await sh(all.machine, `${WORK}; braid take 4; wc -l </tmp/out`)).stdout, 'done 0\nafter 4\n19997\n');
  });

  test('files that the host has named come along with a copy', async () => {
    const files = ['/tmp/a', '/srv/deep/b', '/tmp/gone', '/tmp/never'];
    await using all = await listening({ files });
    const { stdout } = await sh(
      all.machine,
      `echo old >/tmp/a; echo old >/tmp/gone
       i=$(braid branch 2)
       if [ "$i" -gt 0 ]; then
         echo "a of $i" >/tmp/a; rm /tmp/gone; mkdir -p /srv/deep; echo "b of $i" >/srv/deep/b; chmod 751 /srv/deep/b
         echo small | braid result; braid done; sleep 5; echo late >/tmp/a
       fi
       braid take 2; echo "$?"; cat /tmp/a /srv/deep/b; stat -c %a /srv/deep/b; ls /tmp`,
    );
    assert.equal(stdout, 'small\n0\na of 2\nb of 2\n751\na\n');
    assert.deepEqual(all.refused, []);
  });

  test('and with a clone that is adopted', async () => {
    await using all = await listening({ files: ['/tmp/a'], take: 'adopt' });
    const script = `i=$(braid branch 2); if [ "$i" -gt 0 ]; then echo "$i" >/tmp/a; braid done; echo "done $?"; fi
       braid take 2; cat /tmp/a`;
    assert.equal((await sh(all.machine, script)).stdout, 'done 0\n2\n');
  });

  test('the host chooses, and the original waits for it at the branch', async () => {
    const script = `${WORK}; braid take "\${i#-}" | head -n 1`;
    await using copied = await listening({ choose: chooses(2) });
    assert.equal((await sh(copied.machine, script)).stdout, 'after -2\n2\n');
    assert.deepEqual(await first(copied).result, { index: 2, how: 'copy' });
    await using adopted = await listening({ choose: chooses({ index: 3, how: 'adopt' }) });
    assert.equal((await sh(adopted.machine, script)).stdout, 'done 0\nafter 3\n');
    await using none = await listening({ choose: chooses(0) });
    assert.equal((await sh(none.machine, script)).stdout, '');
    assert.deepEqual(await first(none).result, { index: 0, how: 'none' });
  });

  test('a choice that fails, and one that makes no sense', async () => {
    const failing = () => {
      throw new TypeError('no idea');
    };
    await using all = await listening({ choose: failing });
    assert.equal((await sh(all.machine, WORK)).stdout, '');
    await assert.rejects(first(all).result, code('ERR_BRAID_BRANCH'));
    await using wrong = await listening({ choose: chooses(5) });
    assert.equal((await sh(wrong.machine, WORK)).stdout, '');
    await assert.rejects(first(wrong).result, /no branch 5/);
  });

  test('how clones end: an exit, a panic, no more steps, one that only waits', async () => {
    await using all = await listening({ budget: 2_000_000_000n });
    const script = `i=$(braid branch 5)
      case $i in
        1) poweroff -f;;
        2) echo c >/proc/sysrq-trigger;;
        3) while :; do :; done;;
        4) braid done 7;;
        5) kill -STOP $$;;
      esac
      braid take 1 || echo not 1; braid take 2 || echo not 2; braid take 3 || echo not 3; braid take 4 && echo 4`;
    assert.equal((await sh(all.machine, script)).stdout, 'not 1\nnot 2\nnot 3\n4\n');
    const kinds = await Promise.all(
      first(all)
        .branches.slice(0, 4)
        .map(async ({ completed }) => (await completed).kind),
    );
    assert.deepEqual(kinds, ['exit', 'panic', 'budget', 'done']);
    // Taken before it was known that the fifth would wait for ever, or after.
    assert.match(first(all).branches[4]!.state!.kind, /stopped|halt|budget/);
    assert.equal(all.refused.length, 3);
    await assert.rejects(first(all).adopt(1), code('ERR_BRAID_BRANCH'));
  });

  test('nested branches: refused, and allowed', async () => {
    const script = `i=$(braid branch 2)
      if [ "$i" -gt 0 ]; then
        j=$(braid branch 2)
        if [ "$j" -gt 0 ]; then echo "$i.$j" | braid result; braid done; fi
        { echo "$i"; braid take 2; } >/tmp/all; braid result /tmp/all; braid done
      fi
      braid take 1`;
    await using flat = await listening();
    assert.equal((await sh(flat.machine, script)).stdout, '1\n');
    assert.match(flat.refused.join(), /depth/);
    await using deep = await listening({ depth: 2 });
    assert.equal((await sh(deep.machine, script)).stdout, '1\n1.2\n');
    assert.deepEqual(deep.refused, []);
    await using full = await listening({ depth: 2, limit: 3 });
    assert.equal((await sh(full.machine, script)).stdout, '1\n1.2\n'.slice(0, full.refused.length > 0 ? 2 : 6));
    assert.match(full.refused.join(), /limit/);
  });

  test('misuse has the result 0 and is told', async () => {
    await using all = await listening({ limit: 3 });
    const script = `braid branch 4; echo x | braid result || echo no result; braid done || echo no done
      braid take 1 || echo no take; i=$(braid branch 3); [ "$i" -gt 0 ] && braid done
      braid take 4 || echo no 4; braid take 0 && echo none; braid take 1 || echo over`;
    assert.equal((await sh(all.machine, script)).stdout, '0\nno result\nno done\nno take\nno 4\nnone\nover\n');
    assert.equal(all.refused.length, 6);
  });
});

describe('a program in C', { skip: guestMissing || noCompiler() }, () => {
  test('takes, adopts, and is refused what it may not write', async (t) => {
    const program = compile(
      t.after.bind(t),
      `#include <braid.h>
       #include <stdio.h>
       #include <stdlib.h>
       #include <string.h>
       #include <sys/mman.h>
       static struct { int index; char text[9000]; } answer;
       int main(int argc, char **argv) {
         int way = atoi(argv[1]);
         static int written[2];
         /* Pages that nobody has written: the kernel's zeros, or none. */
         char *fresh = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         int zeros = way == 3 ? fresh[0] + fresh[4096] : 0;
         memset(&answer, 1, sizeof answer);
         braid_mark("before");
         written[0] = 1;
         int i = braid_branch(3);
         if (i > 0) {
           answer.index = i;
           memset(answer.text, 'a' + i, sizeof answer.text);
           if (way >= 3) memset(fresh, i, 8192);
           int first = braid_result(&answer, sizeof answer);
           if (way == 3 || way == 4) braid_result(fresh + 4000, 200);
           if (way == 5) braid_result("constant", 8);
           int done = braid_done(-i);
           printf("branch %d: %d %d\\n", i, first, done);
           return 7;
         }
         int taken = way == 2 ? braid_take_as(3, BRAID_ADOPT) : braid_take_as(2, BRAID_COPY);
         printf("%d %d %c%c %d\\n", taken, answer.index, answer.text[0], answer.text[8999], zeros);
         if (way >= 3) printf("%d\\n", braid_take(1));
         return 0;
       }`,
    );
    await using all = await listening();
    const { machine, refused } = all;
    await machine.writeFile('/tmp/program', program);
    await machine.exec(['chmod', '+x', '/tmp/program']);
    const marks: string[] = [];
    machine.on('mark', (name) => marks.push(name));
    const run = async (way: number) => (await machine.exec(['/tmp/program', String(way)])).stdout;
    assert.equal(await run(1), '1 2 cc 0\n');
    assert.equal(await run(2), 'branch 3: 1 1\n');
    assert.deepEqual(refused, []);
    assert.equal(await run(3), '0 16843009 \x01\x01 0\n0\n', 'a page of zeros that all processes share');
    assert.equal(await run(4), '0 16843009 \x01\x01 0\n0\n', 'no page');
    assert.equal(await run(5), '0 16843009 \x01\x01 0\n0\n', 'constants');
    assert.equal(refused.length, 6);
    assert.deepEqual(marks, ['before', 'before', 'before', 'before', 'before']);
  });
});

describe('what happens on the way', { skip: guestMissing }, () => {
  const TAKES = `i=$(braid branch 3); if [ "$i" -gt 0 ]; then while :; do :; done; fi; braid take 1; echo "take $?"`;

  test('the original is disposed of while it waits: its clones go too, and nothing is left', async () => {
    await using pool = new Pool();
    const all = await listening({}, { pool });
    const begun = new Promise<void>((resolve) => {
      all.machine.on('mark', () => resolve());
    });
    const script = sh(all.machine, TAKES.replace('braid take', 'braid mark here; braid take'));
    const failed = assert.rejects(script, code('ERR_BRAID_DISPOSED'));
    await begun;
    await all.machine.dispose();
    await failed;
    assert.deepEqual(await first(all).result, { index: 0, how: 'none' });
    assert.equal(pool.memory.used, 0);
  });

  test('a reset: the clones are stopped, and what is reset goes on as before', async () => {
    await using all = await listening();
    await using point = await all.machine.forkPoint();
    const begun = new Promise<void>((resolve) => {
      all.machine.on('mark', () => resolve());
    });
    const script = assert.rejects(sh(all.machine, TAKES.replace('braid take', 'braid mark here; braid take')));
    await begun;
    await all.machine.reset(point);
    await script;
    assert.deepEqual(await first(all).result, { index: 0, how: 'none' });
    assert.equal((await sh(all.machine, `${WORK}; braid take 3 | head -n 1`)).stdout, '3\n');
  });

  test('nobody listens any more: a program that waits gets 0', async () => {
    await using all = await listening();
    const begun = new Promise<void>((resolve) => {
      all.machine.on('mark', () => resolve());
    });
    const script = sh(all.machine, TAKES.replace('braid take', 'braid mark here; braid take'));
    await begun;
    await all.branches.dispose();
    assert.equal((await script).stdout, '\ntake 1\n'.trimStart());
    assert.equal((await sh(all.machine, 'braid branch 2')).stdout, '0\n');
    const again = await all.machine.branches();
    await assert.rejects(all.machine.branches(), code('ERR_BRAID_OPTION'));
    assert.equal((await sh(all.machine, `${WORK}; braid take 2 | head -n 1`)).stdout, '2\n');
    await again.dispose();
  });

  test('the host adopts a clone that goes on, or discards them all', async () => {
    await using all = await listening({ onBranching: (one) => void one.adopt(2) });
    const { stdout } = await sh(all.machine, `i=$(braid branch 2); [ "$i" -gt 0 ] || sleep 1000000; echo "$i"`);
    assert.equal(stdout, '2\n');
    await using none = await listening({ onBranching: (one) => void one.discard() });
    assert.equal((await sh(none.machine, TAKES)).stdout, 'take 1\n');
  });

  test('a pool without room: the clones that find none have failed, and the original goes on', async () => {
    await using pool = new Pool({ memory: 56 * 2 ** 20 });
    await using all = await listening({ choose: chooses(0) }, { pool, memory: '32M' });
    const script = `i=$(braid branch 4)
      if [ "$i" -gt 0 ]; then dd if=/dev/zero of=/tmp/x bs=1M count=14 2>/dev/null; braid done; fi; echo over`;
    assert.equal((await sh(all.machine, script)).stdout, 'over\n');
    const states = first(all).branches.map(({ state }) => state!);
    assert.ok(
      states.some((state) => state.kind === 'failed' && state.error.code === 'ERR_BRAID_POOL_FULL'),
      states.map(({ kind }) => kind).join(),
    );
    assert.equal((await sh(all.machine, 'echo alive')).stdout, 'alive\n');
  });

  test('a thread that dies takes its clones along; the original hears that they failed', async () => {
    await using pool = new Pool({ threads: 2 });
    await using all = await listening({}, { pool });
    const begun = new Promise<void>((resolve) => {
      all.machine.on('mark', () => resolve());
    });
    const script = sh(
      all.machine,
      `i=$(braid branch 1); if [ "$i" -gt 0 ]; then while :; do :; done; fi; braid mark here; braid take 1; echo "take $?"`,
    );
    await begun;
    const threads = [...(pool as unknown as { threads: Set<{ worker: Worker; machines: Set<number> }> }).threads];
    const { id } = (first(all).branches[0]!.machine as unknown as { link: { id: number } }).link;
    await threads.find(({ machines }) => machines.has(id))!.worker.terminate();
    assert.equal((await script).stdout, 'take 1\n');
    assert.equal(first(all).branches[0]!.state?.kind, 'failed');
    assert.equal((await sh(all.machine, 'echo alive')).stdout, 'alive\n');
  });
});

test('options that cannot work', { skip: guestMissing }, async () => {
  await using machine = await Machine.create({ memory: '64M' });
  for (const options of [{ limit: 0 }, { limit: 1.5 }, { depth: 0 }, { depth: 17 }, { budget: 0 }])
    await assert.rejects(machine.branches(options), code('ERR_BRAID_OPTION'));
});

function noCompiler(): string | false {
  return spawnSync(COMPILER, ['--version']).status === 0 ? false : `${COMPILER} is not installed`;
}

function compile(after: (cleanUp: () => void) => void, source: string): Uint8Array {
  const folder = temporaryFolder(after);
  const [from, to] = [join(folder, 'program.c'), join(folder, 'program')];
  writeFileSync(from, source);
  const include = fileURLToPath(new URL('../../../../guest/include', import.meta.url));
  const built = spawnSync(COMPILER, ['-O2', '-static', '-Wall', '-I', include, '-o', to, from], { encoding: 'utf8' });
  assert.equal(built.status, 0, built.stderr);
  return readFileSync(to);
}
