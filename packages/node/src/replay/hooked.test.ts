/** What a replay shows besides what was recorded: output of programs, hooks, and replay-only code. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { compileProgram, FREESTANDING, programsMissing } from '@braid/core/testing/guest-program.ts';
import { Machine } from '../machine.ts';
import { temporaryFolder } from '../testing.ts';
import { Replay } from './replay.ts';

const PROGRAM = `
#include "braid.h"
static long call(long number, long a, long b, long c) {
    register long a0 __asm__("a0") = a; register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c; register long a7 __asm__("a7") = number;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
    return a0;
}
static volatile int counter;
__attribute__((noinline)) int add(int a, int b) { __asm__ volatile("" ::: "memory"); return counter += a + b; }
void _start(void) {
    for (int i = 0; i < 3; i++) {
        add(i, 10);
        if (braid_replay_only_begin(7)) {
            call(64, 1, (long)"checked\\n", 8);
            add(1000, 1000);
            braid_replay_only_end(7);
        }
    }
    call(64, 1, (long)"done\\n", 5);
    call(93, counter == 33 ? 0 : 1, 0, 0);
}
`;

describe('a recorded program', { skip: programsMissing }, () => {
  const folder = temporaryFolder(after);
  const path = join(folder, 'program.rec');
  let program: Uint8Array;

  test('is recorded, and shown again', async () => {
    program = compileProgram(PROGRAM, FREESTANDING);
    await using machine = await Machine.create({ seed: 3n });
    await machine.boot();
    await machine.writeFile('/tmp/program', program);
    await machine.exec(['chmod', '+x', '/tmp/program']);
    const recording = await machine.record(path);
    const { stdout, exitCode } = await machine.exec(['/tmp/program']);
    assert.equal(exitCode, 0);
    assert.equal(stdout, 'done\n');
    await recording.stop();
    let said = '';
    await using replay = await Replay.open(path, { onProgram: (_, bytes) => (said += Buffer.from(bytes)) });
    await replay.run({ show: true });
    assert.equal(said, 'done\n');
    assert.deepEqual(
      replay.marks.map(({ kind, name }) => [kind, name]),
      [
        ['begin', ''],
        ['exit', '/tmp/program: 0'],
        ['end', 'stopped'],
      ],
    );
  });

  test('its replay-only code runs where it is asked for, and the replay is the same', async () => {
    await using replay = await Replay.open(path);
    const runs: string[] = [];
    const told = (asked: readonly number[]) => async () => {
      await replay.seek({ at: 0n });
      const stop = await replay.run({
        replayOnly: asked,
        onReplayOnly: ({ code, error, output }) =>
          runs.push(`${code} ${error ?? 'ended'}: ${output.map(({ bytes }) => Buffer.from(bytes)).join('')}`),
      });
      assert.deepEqual(stop, { kind: 'end' });
    };
    await told([8])();
    assert.deepEqual(runs, []);
    await told([7])();
    assert.deepEqual(runs, Array(3).fill('7 ended: checked\n'));
    assert.ok(replay.verified >= 0);
  });

  test('functions of ours are called at its places', async () => {
    await using replay = await Replay.open(path);
    const seen: string[] = [];
    const off = await replay.on(
      { symbol: 'add' },
      async (at) => {
        const { result } = await at.call({ symbol: 'add' }, [5n, 6n]);
        seen.push(`add(${at.register('a0')}, ${at.register('a1')}), of 5 and 6: ${result}`);
      },
      { program },
    );
    await replay.on(
      { syscall: 'write' },
      async (at) => {
        assert.equal(at.syscall?.name, 'write');
        const [, text, length] = at.syscall!.args;
        seen.push(`write: ${Buffer.from(await at.read(text!, Number(length)))}`);
      },
      { process: 'program' },
    );
    assert.deepEqual(await replay.run(), { kind: 'end' });
    assert.deepEqual(seen, [
      'add(0, 10), of 5 and 6: 11',
      'add(1, 10), of 5 and 6: 21',
      'add(2, 10), of 5 and 6: 32',
      'write: done\n',
    ]);
    await off();
    await replay.seek({ at: 0n });
    seen.length = 0;
    await replay.on({ syscall: 'write' }, () => replay.seek({ at: 0n }));
    await assert.rejects(replay.run(), { code: 'ERR_BRAID_OPTION' });
    await replay.seek({ at: replay.end.at });
  });
});
