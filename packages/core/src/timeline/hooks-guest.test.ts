/** Hooks on a replay of a C program in the default guest: what their functions see and call, and that nothing else notices. */

import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { ProgramCode } from '../branch/program-code.ts';
import { stateHash } from '../machine/hash.ts';
import { formatPosition } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import { bootInto, compileProgram, programsMissing } from '../testing/guest-program.ts';
import { sharedEngine } from '../testing/machines.ts';
import { DiversionError } from './diversion.ts';
import { callFunction } from './guest-call.ts';
import { HookError, Hooks, programSymbols } from './hooks.ts';
import { type LoggedRun, record, replay } from './logged-run.ts';

const PROGRAM = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <braid.h>

#define API __attribute__((noinline, noclone, used))
struct node { long value; struct node *next; };
static struct node *head;

API long length(struct node *list) {
  long n = 0;
  for (; list; list = list->next) n++;
  return n;
}
API long total(const char *label) {
  long sum = 0;
  for (struct node *at = head; at; at = at->next) sum += at->value;
  printf("%s: %ld\\n", label, sum);
  fflush(stdout);
  return sum;
}
API long ruin(void) {
  for (struct node *at = head; at; ) { struct node *next = at->next; free(at); at = next; }
  head = 0;
  return -1;
}
API long eight(long a, long b, long c, long d, long e, long f, long g, long h) {
  return a + 10 * (b + 10 * (c + 10 * (d + 10 * (e + 10 * (f + 10 * (g + 10 * h))))));
}
API long crash(long *at) { return *at; }
API void hang(void) { for (;;) ; }
API void leave(void) { exit(9); }
API void insert(long value) {
  struct node *node = malloc(sizeof *node);
  node->value = value;
  node->next = head;
  head = node;
}
API void other(void) { write(2, "", 0); }
int main(void) {
  int status;
  printf("begin\\n");
  fflush(stdout);
  if (fork() == 0) {
    for (long n = 1; n <= 5; n++) insert(n * n);
    braid_mark("inserted");
    chdir("/made");
    mkdir("/made/here", 0751);
    exit(0);
  }
  wait(&status);
  for (long n = 1; n <= 3; n++) insert(-n);
  other();
  printf("that is all\\n");
  fflush(stdout);
  for (;;) pause();
}
`;

const summary = (machine: Machine) => ({
  hash: stateHash(machine),
  position: formatPosition(machine.position),
  now: machine.now,
});

describe('hooks on a replay', { skip: programsMissing }, () => {
  let program: Uint8Array;
  let recording: LoggedRun;
  let steps: number;
  let expected: ReturnType<typeof summary>;
  let said = '';

  before(() => {
    program = compileProgram(PROGRAM);
    const machine = bootInto(program, { harts: 2, hints: { mark: 10 } }, (text) => (said += text));
    const until = (text: string) => {
      for (let n = 0; n < 5000 && !said.includes(text); n++) machine.run(3e4);
      assert.ok(said.includes(text), said);
    };
    until('begin');
    recording = record(machine);
    until('that is all');
    steps = Number(machine.totalSteps);
    expected = summary(machine);
    machine.free();
  });

  /** A replay with hooks, that has to come to the same end. */
  const follow = (set: (hooks: Hooks, machine: Machine) => void) => {
    const machine = replay(sharedEngine(), recording);
    const hooks = new Hooks(machine, { symbols: [programSymbols(new ProgramCode(program))] });
    set(hooks, machine);
    while (machine.totalSteps < steps) {
      const stop = hooks.run(steps - Number(machine.totalSteps));
      if (stop.reason !== 'hint') assert.equal(stop.reason, 'steps');
    }
    assert.deepEqual(summary(machine), expected);
    hooks.clear();
    assert.equal(machine.breakpoints.size, 0);
    assert.equal(machine.interceptions.hears, 0);
    machine.free();
  };

  test('functions see arguments and memory, and call functions of the program', () => {
    const seen: string[] = [];
    const spaces = new Set<bigint>();
    follow((hooks) => {
      hooks.on({ symbol: 'insert' }, (at) => {
        const value = BigInt.asIntN(64, at.register('a0'));
        const head = new DataView(at.read(symbolData('head'), 8).slice().buffer).getBigUint64(0, true);
        const { result } = at.call({ symbol: 'length' }, [head]);
        const all = at.call({ symbol: 'total' }, ['so far']);
        assert.equal(at.call({ symbol: 'ruin' }).result, (1n << 64n) - 1n);
        seen.push(`${value} ${result} ${BigInt.asIntN(64, all.result)} ${all.output.text('stdout')}`);
        spaces.add(at.machine.hartSet.get(at.hart, 'satp'));
        assert.equal(at.pc, new ProgramCode(program).symbol('insert').address);
      });
    });
    assert.deepEqual(seen, [
      '1 0 0 so far: 0\n',
      '4 1 1 so far: 1\n',
      '9 2 5 so far: 5\n',
      '16 3 14 so far: 14\n',
      '25 4 30 so far: 30\n',
      '-1 0 0 so far: 0\n',
      '-2 1 -1 so far: -1\n',
      '-3 2 -3 so far: -3\n',
    ]);
    assert.equal(spaces.size, 2);
  });

  /** Where a variable of the program is: from the symbol table, which `ProgramCode` reads for code only. */
  const symbolData = (name: string): bigint => {
    const view = new DataView(program.buffer, program.byteOffset, program.length);
    const table = Number(view.getBigUint64(40, true));
    const sections = Array.from({ length: view.getUint16(60, true) }, (_, n) => table + 64 * n);
    const symbols = sections.find((at) => view.getUint32(at + 4, true) === 2)!;
    const strings = Number(view.getBigUint64(sections[view.getUint32(symbols + 40, true)]! + 24, true));
    const from = Number(view.getBigUint64(symbols + 24, true));
    const count = Number(view.getBigUint64(symbols + 32, true)) / 24;
    for (let n = 0; n < count; n++) {
      const at = strings + view.getUint32(from + 24 * n, true);
      const end = program.indexOf(0, at);
      if (Buffer.from(program.subarray(at, end)).toString() === name) return view.getBigUint64(from + 24 * n + 8, true);
    }
    throw new TypeError(`no ${name}`);
  };

  test('system calls by name and number, marks, addresses, filters', () => {
    const seen: string[] = [];
    follow((hooks, machine) => {
      hooks.on({ syscall: 'mkdirat' }, (at) => {
        const { name, number, args } = at.syscall!;
        seen.push(`${name} ${number} ${at.text(args[1]!)} ${args[2]!.toString(8)}`);
      });
      hooks.on({ syscall: 49 }, (at) => seen.push(at.syscall!.name));
      let space: bigint | undefined;
      hooks.on({ mark: 'inserted' }, (at) => {
        space = at.machine.hartSet.get(at.hart, 'satp');
        seen.push(`mark ${at.call({ symbol: 'total' }, ['all']).result}`);
        hooks.on({ symbol: 'other' }, () => seen.push('of the child'), { satp: space });
      });
      hooks.on({ mark: 'never' }, () => seen.push('never'));
      const off = hooks.on(new ProgramCode(program).symbol('other').address, () => {
        seen.push('other');
        off();
      });
      assert.throws(() => hooks.on({ symbol: 'nothing' }, () => {}), /no code called nothing/);
      assert.throws(() => new Hooks(machine).on({ symbol: 'insert' }, () => {}), HookError);
      assert.throws(() => hooks.on({ syscall: 'levitate' }, () => {}), HookError);
      assert.throws(() => hooks.on(4n, () => {}, { process: 'x' }), HookError);
    });
    assert.deepEqual(seen, ['mark 55', 'chdir', 'mkdirat 34 /made/here 751', 'other']);
  });

  test('a process is chosen by its name, where somebody can say it', () => {
    const machine = replay(sharedEngine(), recording);
    const symbols = [programSymbols(new ProgramCode(program))];
    let name = 'someone';
    const hooks = new Hooks(machine, { symbols, processOf: () => name });
    let count = 0;
    hooks.on({ symbol: 'insert' }, () => (name = ++count === 2 ? 'else' : name), { process: 'someone' });
    while (machine.totalSteps < steps) hooks.run(steps - Number(machine.totalSteps));
    assert.equal(count, 2);
    machine.free();
  });

  test('calls: arguments, what is wrong with them, and functions that do not return', () => {
    const reasons: string[] = [];
    follow((hooks) => {
      const off = hooks.on({ symbol: 'insert' }, (at) => {
        off();
        const { machine, hart } = at;
        const before = summary(machine);
        const limits = { steps: 2e7, time: 400_000_000n };
        const { result, steps: made } = at.call({ symbol: 'eight' }, [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n]);
        assert.equal(result, 87654321n);
        assert.ok(made > 8n && made < 100n, `${made} steps`);
        const inspect = (machine: Machine) => machine.hartSet.getX(hart, 10) + 1n;
        assert.equal(at.call({ symbol: 'eight' }, [1n], { inspect }).inspected % 10n, 2n);
        const bytes = Uint8Array.of(7, 1, 0, 0, 0, 0, 0, 0);
        assert.equal(at.call({ symbol: 'crash' }, [bytes]).result, 263n);
        const fails = (call: () => unknown) => {
          try {
            call();
            reasons.push('returned');
          } catch (error) {
            assert.ok(error instanceof DiversionError);
            assert.match(error.message, /^the call of 0x[0-9a-f]+ on hart \d at \d+:\d:\d+: /);
            reasons.push(error.reason);
          }
        };
        fails(() => at.call({ symbol: 'crash' }, [64n], limits));
        fails(() => at.call({ symbol: 'hang' }, [], limits));
        fails(() => at.call({ symbol: 'leave' }, [], limits));
        fails(() => at.call(3n));
        fails(() => at.call(1n << 40n, [], limits));
        fails(() => at.call({ symbol: 'eight' }, new Array(9).fill(0n)));
        fails(() => at.call({ symbol: 'crash' }, [new Uint8Array(70_000)]));
        fails(() => callFunction(machine, hart, 1n << 64n));
        assert.deepEqual(summary(machine), before);
      });
    });
    assert.deepEqual(reasons, ['fault', 'steps', 'exit', 'place', 'fault', 'place', 'place', 'place']);
  });

  test('what a function throws comes out, and the replay goes on', () => {
    follow((hooks, machine) => {
      let fails = 2;
      hooks.on({ symbol: 'insert' }, () => {
        if (fails-- > 0) throw new RangeError('enough');
      });
      for (let n = 0; n < 2; n++) assert.throws(() => hooks.run(steps - Number(machine.totalSteps)), RangeError);
    });
  });
});
