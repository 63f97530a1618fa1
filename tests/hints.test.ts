/** Hints from the default guest: the tool `braid` in a shell, run by the agent, on a machine whose host answers them. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Hint, type HintQuotas, type Machine, restoreMachine, saveMachine } from '../packages/core/src/index.ts';
import { guestMissing, linuxMachine } from '../packages/core/src/testing/machines.ts';
import { record, replay } from '../packages/core/src/timeline/logged-run.ts';

const STEPS = 3e9;
const QEMU = 'qemu-riscv64';

/** Runs to the next hint, or until `over`. */
function next(machine: Machine, over: () => boolean = () => false): Hint | undefined {
  for (const end = machine.totalSteps + BigInt(STEPS); machine.totalSteps < end && !over(); ) {
    const stop = machine.run(1e6);
    if (stop.reason === 'hint') return stop.hint;
    assert.ok(stop.reason === 'steps' || stop.reason === 'attention', `${stop.reason}`);
  }
  assert.ok(over(), 'neither a hint nor the end');
  return undefined;
}

/** Starts a script; `over` once it has exited. */
function start(machine: Machine, script: string): { output: string; code: number | undefined } {
  const run = { output: '', code: undefined as number | undefined };
  machine.agent.exec(
    { argv: ['sh', '-c', script] },
    {
      output: (_, bytes) => {
        run.output += new TextDecoder().decode(bytes);
      },
      exit: (exit) => {
        run.code = 'code' in exit && typeof exit.code === 'number' ? exit.code : -1;
        machine.interrupt();
      },
    },
  );
  return run;
}

/** Runs a script to its end and answers each hint. */
function converse(hints: Partial<HintQuotas>, script: string, answer: (hint: Hint) => bigint | undefined) {
  const machine = linuxMachine({ hints });
  const recording = record(machine);
  const run = start(machine, script);
  const heard: Hint[] = [];
  for (;;) {
    const hint = next(machine, () => run.code !== undefined);
    if (!hint) return { ...run, heard, machine, recording };
    heard.push(hint);
    const value = answer(hint);
    if (value !== undefined) machine.input({ kind: 'hint', hart: hint.hart, value });
  }
}

/** Puts bytes at a virtual address of the process that runs. */
function put(machine: Machine, hart: number, address: bigint, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const at = address + BigInt(done);
    const part = Math.min(bytes.length - done, 4096 - Number(at % 4096n));
    const physical = machine.physical(hart, at);
    assert.ok(physical !== undefined && machine.ram.write(Number(physical), bytes.subarray(done, done + part)));
    done += part;
  }
}

describe('the tool in the default guest', { skip: guestMissing }, () => {
  const EVERYTHING = `
    braid mark 'all set up'; echo "mark $?"
    echo "index $(braid branch 2)"
    printf 'three words here' | braid result; echo "result $?"
    braid done -7; echo "done $?"
    braid take 1; echo "take $?"`;

  test('says what it is told to, and shows what the host answers; a replay hears the same', () => {
    const quotas = { branch: 1, result: 1, done: 1, take: 1, mark: 1 };
    const { output, code, heard, machine, recording } = converse(quotas, EVERYTHING, ({ kind }) =>
      kind === 'branch' ? 2n : kind === 'take' ? undefined : 1n,
    );
    assert.equal(code, 0);
    assert.equal(output, 'mark 0\nindex 2\nresult 0\ndone 0\ntake 1\n');
    const bytes = new Uint8Array(24);
    bytes[0] = 16;
    bytes.set(new TextEncoder().encode('three words here'), 8);
    const { address } = heard[2] as Hint & { address: bigint };
    assert.deepEqual(heard, [
      { kind: 'mark', hart: 0, name: 'all set up' },
      { kind: 'branch', hart: 0, count: 2 },
      { kind: 'result', hart: 0, address, bytes },
      { kind: 'done', hart: 0, status: -7 },
      { kind: 'take', hart: 0, index: 1, mode: 0 },
    ]);
    machine.free();
    const again = replay(machine.engine, recording);
    assert.deepEqual(
      heard.map(() => next(again)),
      heard,
    );
    again.free();
  });

  test('does nothing on a host that has enabled nothing', () => {
    const { output, heard, machine } = converse({}, EVERYTHING, () => 1n);
    assert.equal(output, 'mark 1\nindex 0\nresult 1\ndone 1\ntake 1\n');
    assert.deepEqual(heard, []);
    machine.free();
  });

  test('refuses what makes no sense', () => {
    const script = `
      for words in '' 'branch' 'branch 0' 'branch 65' 'branch 2x' 'take' 'take -1' 'take 65' 'adopt' 'adopt 0' 'done x' 'leap 3' 'mark a b' \\
        'result /none' 'result /bin/busybox' "mark $(head -c 257 /dev/zero | tr '\\0' x)"; do
        braid $words 2>/tmp/errors; echo -n "$? "; [ -s /tmp/errors ] || echo silent
      done`;
    const { output, heard, machine } = converse({ branch: 9, result: 9, done: 9, take: 9, mark: 9 }, script, () => 1n);
    assert.equal(output, '2 '.repeat(16));
    assert.deepEqual(heard, []);
    machine.free();
  });

  test("a branch's result reaches the original, when the host puts it there", () => {
    const machine = linuxMachine({ hints: { branch: 1, result: 1, done: 1, take: 1 } });
    const run = start(
      machine,
      `i=$(braid branch 3)
       if [ "$i" -gt 0 ]; then seq "$i" 20000 >/tmp/out; braid result /tmp/out; braid done; fi
       braid take 2 >/tmp/out; head -n 1 /tmp/out; wc -l </tmp/out`,
    );
    const point = next(machine);
    assert.equal(point?.kind, 'branch');
    const clone = restoreMachine(machine.engine, saveMachine(machine));
    clone.input({ kind: 'hint', hart: 0, value: 2n });
    const result = next(clone);
    assert.ok(result?.kind === 'result');
    assert.equal(next(clone)?.kind, 'done');
    clone.free();
    const take = next(machine);
    assert.deepEqual(take, { kind: 'take', hart: 0, index: 2, mode: 0 });
    put(machine, 0, result.address, result.bytes);
    machine.input({ kind: 'hint', hart: 0, value: 1n });
    assert.equal(
      next(machine, () => run.code !== undefined),
      undefined,
    );
    assert.deepEqual(run, { output: '2\n19999\n', code: 0 });
    machine.free();
  });
});

test('braid.h is plain C and C++, and does nothing on other processors', (t) => {
  const header = fileURLToPath(new URL('../guest/include/braid.h', import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'braid-header-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const source = join(folder, 'program.c');
  writeFileSync(
    source,
    `#include "${header}"
     int main(void) {
       int kept = 5;
       return braid_branch(3) + braid_result(&kept, sizeof kept) + braid_done(1) + braid_take(1) + braid_mark("here");
     }`,
  );
  const strict = ['-Wall', '-Wextra', '-Wpedantic', '-Werror'];
  for (const compiler of [
    ['cc', '-std=c99'],
    ['c++', '-xc++', '-std=c++11'],
    ['riscv64-linux-gnu-gcc', '-std=c99', '-O2', '-static'],
    ['riscv64-linux-gnu-gcc', '-std=c99', '-O0', '-static'],
  ] as const) {
    const [command, ...options] = compiler;
    if (spawnSync(command, ['--version']).status !== 0) {
      t.diagnostic(`${command} is not installed`);
      continue;
    }
    const program = join(folder, 'program');
    const built = spawnSync(command, [...options, ...strict, '-o', program, source], { encoding: 'utf8' });
    assert.equal(built.status, 0, built.stderr);
    const foreign = command.startsWith('riscv64');
    if (foreign && spawnSync(QEMU, ['--version']).status !== 0) continue;
    assert.equal(spawnSync(foreign ? QEMU : program, foreign ? [program] : []).status, 0, command);
  }
});
