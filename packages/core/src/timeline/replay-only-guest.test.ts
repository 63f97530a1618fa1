/** Replay-only code of a C program in the default guest: what it says, what becomes of it, and that the replay does not notice. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type BlockBackend, MemoryBackend } from '../devices/virtio-block/backend.ts';
import { DiskError } from '../disk/errors.ts';
import { FrameBlocks } from '../disk/frame-blocks.ts';
import { OverlayBackend } from '../disk/overlay.ts';
import { recordedHash, stateHash } from '../machine/hash.ts';
import { formatPosition } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import type { DiskOptions } from '../machine/options.ts';
import type { Attachments } from '../machine/save.ts';
import { bootInto, compileProgram, programsMissing } from '../testing/guest-program.ts';
import { sharedEngine } from '../testing/machines.ts';
import { type LoggedRun, record, replay } from './logged-run.ts';
import { ReplayOnly, type ReplayOnlyRun } from './replay-only.ts';

const PROGRAM = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <braid.h>

static long data[8192];

static void work(int turn) {
  for (int i = 0; i < 8192; i++) data[i] = data[i] * 31 + i + turn;
}
__attribute__((noinline)) static long sum(void) {
  long all = 0;
  for (int i = 0; i < 8192; i++) all += data[i];
  return all;
}
static void check(int turn) {
  BRAID_REPLAY_ONLY(7) {
    printf("turn %d: %ld\\n", turn, sum());
    fflush(stdout);
    memset(data, 0, sizeof data);
    if (turn == 2) break;
    fprintf(stderr, "and data is spoilt\\n");
  }
}
static int child(void) {
  for (int turn = 0; turn < 4; turn++) {
    work(turn);
    check(turn);
    if (braid_replay_only_begin(8)) {
      struct iovec both[2] = {{"one ", 4}, {"two\\n", 4}};
      check(turn + 100);
      braid_replay_only_end(9); /* never begun: nothing */
      if (writev(1, both, 2) != 8) abort();
      braid_replay_only_end(8);
    }
  }
  for (unsigned long code = 20; code < 28; code++) {
    work(code);
    if (!braid_replay_only_begin(code)) continue;
    printf("code %lu\\n", code);
    fflush(stdout);
    switch (code) {
    case 20: for (;;) ;
    case 21: *(volatile int *)8 = 1; break;
    case 22: abort();
    case 23: exit(3);
    case 24: reboot(RB_POWER_OFF); break;
    case 25: sleep(1000); break;
    case 26: braid_replay_only_end(25); break;
    case 27: system("rm -rf /bin /etc; echo gone"); braid_replay_only_end(code); break;
    }
  }
  printf("sum %ld\\n", sum());
  return 0;
}
int main(void) {
  int ends[2], status;
  char text[4096];
  long count;
  write(1, "ready\\n", 6);
  pipe(ends);
  if (fork() == 0) {
    close(ends[0]);
    dup2(ends[1], 1);
    exit(child());
  }
  close(ends[1]);
  while ((count = read(ends[0], text, sizeof text)) > 0) write(1, text, count);
  wait(&status);
  if (braid_replay_only_begin(30)) *(volatile int *)8 = 1;
  printf("that is all\\n");
  for (;;) pause();
}
`;

interface Run {
  readonly recording: LoggedRun;
  /** Steps that the machine had made when it began, and when it ended. */
  readonly first: number;
  readonly steps: number;
  readonly said: string;
}
const made = new Map<number, Run>();

function recordRun(harts: number): Run {
  const known = made.get(harts);
  if (known) return known;
  let said = '';
  const machine = bootInto(compileProgram(PROGRAM), { harts }, (text) => (said += text));
  const until = (text: string) => {
    for (let n = 0; n < 5000 && !said.includes(text); n++) machine.run(3e4);
    assert.ok(said.includes(text), said);
  };
  until('ready');
  const recording = record(machine);
  const first = Number(machine.totalSteps);
  until('that is all');
  const steps = Number(machine.totalSteps);
  machine.free();
  const run = { recording, first, steps, said };
  made.set(harts, run);
  return run;
}

const summary = (machine: Machine, hash = stateHash) => ({
  hash: hash(machine),
  position: formatPosition(machine.position),
  now: machine.now,
});

/** A replay to so many steps: hashes on the way and at the end, and the code that was run. */
function follow(
  recording: LoggedRun,
  steps: number,
  codes: readonly bigint[] | 'all' | undefined,
  at: readonly number[],
  attachments: Attachments = {},
  hash = stateHash,
) {
  const machine = replay(sharedEngine(), recording, attachments);
  const code = codes && new ReplayOnly(machine, { codes, steps: 3e7, time: 500_000_000n });
  const ran: ReplayOnlyRun[] = [];
  const states = [...at, steps].map((target) => {
    while (machine.totalSteps < target) {
      const stop = machine.run(target - Number(machine.totalSteps));
      const run = code?.serve(stop);
      if (run) ran.push(run);
      else if (stop.reason !== 'hint') assert.equal(stop.reason, 'steps');
    }
    return summary(machine, hash);
  });
  code?.end();
  machine.free();
  return { states, ran };
}

describe('replay-only code of a program', { skip: programsMissing }, () => {
  // With several harts less of it: where everything is translated at once the guest's kernel takes long.
  for (const [harts, codes] of [
    [1, 'all'],
    [3, [7n, 8n, 20n, 21n, 23n]],
  ] as const) {
    test(`${harts} harts: it is skipped when recorded, run when asked for, and leaves no trace`, () => {
      const { recording, first, steps, said } = recordRun(harts);
      assert.match(said, /^sum -?\d+\r?\nthat is all\r?\n$/m);
      assert.doesNotMatch(said, /turn|code|gone/);
      const at = [0.1, 0.3, 0.5, 0.9].map((part) => Math.floor(first + (steps - first) * part));
      const plain = follow(recording, steps, undefined, at);
      const asked = follow(recording, steps, codes, at);
      assert.deepEqual(asked.states, plain.states);

      const byCode = (code: bigint) => asked.ran.filter((ran) => ran.code === code);
      assert.equal(byCode(7n).length, 4);
      for (const [turn, { output, error }] of byCode(7n).entries()) {
        assert.equal(error, undefined);
        assert.match(output.text('stdout'), new RegExp(`^turn ${turn}: -?\\d+\\n$`));
        assert.equal(output.text('stderr'), turn === 2 ? '' : 'and data is spoilt\n');
      }
      // The nested one says 0: data was spoilt in no other diversion than its own.
      assert.equal(byCode(8n).length, 4);
      for (const [turn, { output, error }] of byCode(8n).entries()) {
        assert.equal(error, undefined);
        assert.match(output.text('stdout'), new RegExp(`^turn ${turn + 100}: -?[1-9]\\d*\\none two\\n$`));
      }
      const reason = (code: bigint) => {
        const [ran] = byCode(code);
        assert.equal(ran?.output.text('stdout').startsWith(`code ${code}\n`), true);
        assert.match(ran.error?.message ?? `replay-only code ${code}`, new RegExp(`^replay-only code ${code}( |$)`));
        return ran.error?.reason;
      };
      assert.match(byCode(23n)[0]!.error!.message, /status 3/);
      assert.match(byCode(21n)[0]!.error!.message, /cause 15, value 0x8/);
      const expected = ['steps', 'fault', 'signal', 'exit', 'machine-exit', 'time', 'exit', undefined];
      for (const [n, expectedReason] of expected.entries()) {
        const code = BigInt(20 + n);
        if (codes === 'all' || (codes as readonly bigint[]).includes(code))
          assert.equal(reason(code), expectedReason, `${code}`);
        else assert.equal(byCode(code).length, 0);
      }
      if (codes !== 'all') return;
      const [panic] = byCode(30n);
      assert.equal(panic?.error?.reason, 'machine-exit');
      assert.match(panic.error.message, /the machine ended \(.*\): an exception \(cause 15, value 0x8\)/);
      assert.match(panic.output.text('console'), /Kernel panic/);
    });
  }

  test('only what is asked for is run', () => {
    const { recording, steps } = recordRun(1);
    const { ran } = follow(recording, steps, [8n, 77n], []);
    assert.deepEqual(
      ran.map(({ code, output }) => [code, output.text('stdout')]),
      Array.from({ length: 4 }, () => [8n, 'one two\n']),
    );
  });

  test('what the code does to a disk stays in the diversion, and a block that nobody has is an I/O error there', () => {
    const program = compileProgram(`
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>
#include <braid.h>
static char block[4096] __attribute__((aligned(4096)));
int main(void) {
  write(1, "begin\\n", 6);
  mount("dev", "/dev", "devtmpfs", 0, 0);
  int disk = open("/dev/vda", O_RDWR | O_DIRECT | O_SYNC);
  pread(disk, block, 4096, 0);
  printf("ready %.4s\\n", block);
  fflush(stdout);
  BRAID_REPLAY_ONLY(1) {
    memset(block, 'x', 4096);
    long written = pwrite(disk, block, 4096, 4096), read = pread(disk, block, 4096, 8192);
    printf("%ld %ld %.4s\\n", written, read, block);
    errno = 0;
    read = pread(disk, block, 4096, 1 << 20);
    printf("%ld %s\\n", read, strerror(errno));
    fflush(stdout);
  }
  memset(block, 'y', 4096);
  pwrite(disk, block, 4096, 8192);
  pread(disk, block, 4096, 4096);
  printf("that is all %.4s\\n", block);
  fflush(stdout);
  for (;;) pause();
}`);
    const content = new Uint8Array(4 << 20).fill(0x61);
    const disk = (lost: boolean): DiskOptions => {
      const whole = new MemoryBackend(content, true);
      const base: BlockBackend = {
        size: whole.size,
        readOnly: true,
        read: (offset, into) => {
          if (lost && offset >= 65_536) throw new DiskError('that block is not in the recording');
          whole.read(offset, into);
        },
        write: () => {},
        flush: () => {},
      };
      const blocks = new FrameBlocks(sharedEngine().pool, whole.size);
      return { backend: new OverlayBackend(base, blocks, { frozen: true, readOnly: false }) };
    };
    let said = '';
    const machine = bootInto(program, { disks: [disk(false)] }, (text) => (said += text));
    const until = (text: string) => {
      for (let n = 0; n < 5000 && !said.includes(text); n++) machine.run(3e4);
    };
    until('begin');
    const recording = record(machine);
    until('that is all aaaa');
    assert.match(said, /ready aaaa\r?\nthat is all aaaa/);
    const steps = Number(machine.totalSteps);
    const expected = summary(machine);
    const recorded = summary(machine, recordedHash);
    machine.free();
    // Whether blocks are there that are not read is no matter of the replay.
    const { states, ran } = follow(recording, steps, 'all', [], { disks: [disk(true)] }, recordedHash);
    assert.deepEqual(states, [recorded]);
    assert.deepEqual(
      ran.map(({ output, error }) => [output.text('stdout'), error]),
      [['4096 4096 aaaa\n-1 Input/output error\n', undefined]],
    );
    const asked = follow(recording, steps, 'all', [], { disks: [disk(false)] });
    assert.deepEqual(asked.states, [expected]);
    assert.equal(asked.ran[0]?.output.text('stdout'), '4096 4096 aaaa\n4096 Success\n');
  });
});
