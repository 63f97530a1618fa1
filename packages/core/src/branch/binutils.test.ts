/**
 * The flow of functions that GCC made, against GNU objdump: what the analysis reaches is exactly what objdump lists, instruction
 * by instruction, and targets of branches and calls are the same.
 */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { type FunctionFlow, functionAt } from './flow.ts';
import { branchPoints } from './points.ts';
import { ProgramCode } from './program-code.ts';

const COMPILER = 'riscv64-linux-gnu-gcc';
const OBJDUMP = 'riscv64-linux-gnu-objdump';
const missing = [COMPILER, OBJDUMP].filter((tool) => spawnSync(tool, ['--version']).status !== 0);
const skip = missing.length > 0 && `${missing.join(' and ')} not installed`;

/** Freestanding, so that nothing but a compiler is needed; each function has something of its own to follow. */
const SOURCE = `
#define API __attribute__((noinline))
extern int slow(int), other(int);
extern double real(double);
extern void note(const char *);
void abort(void) __attribute__((noreturn));

API int table(int x, int y) {
  switch (x) {
    case 1: return y * 3;
    case 2: return slow(y);
    case 3: return other(y) + 1;
    case 4: note("four"); return 4;
    case 5: return y - 7;
    case 7: return slow(3);
    case 9: return y ^ 3;
  }
  return -1;
}
API long wide(long x) {
  switch (x) {
    case 100: return slow(1);
    case 101: return other(2);
    case 102: return slow(7);
    case 103: return other(9);
    case 104: return 5;
    case 106: return slow(11);
  }
  return 0;
}
API int condition(int x) {
  int r = other(x);
  if (slow(x) > 3) r += other(1);
  else { note("no"); r -= 2; }
  return r + slow(r);
}
API int dies(int x) {
  if (x == 9) abort();
  return other(x) * x;
}
API int loops(int n) {
  int s = 0;
  for (int i = 0; i < n; i++) {
    if (slow(i)) s += i;
    else s -= other(i);
  }
  return s;
}
API int tail(int x) {
  if (x & 1) return slow(x);
  return other(x);
}
API double floats(double a) {
  if (real(a) > 1.5) return a * 2;
  note("small");
  return 1;
}
API __attribute__((noreturn)) void quits(int x) {
  register long a0 __asm__("a0") = x;
  register long a7 __asm__("a7") = 93;
  __asm__ volatile("ecall" : : "r"(a0), "r"(a7));
  __builtin_unreachable();
}
API int mayQuit(int x) {
  if (x > 4) quits(x);
  return slow(x);
}
int main(int argc, char **argv) {
  return table(argc, 3) + wide(argc) + condition(argc) + dies(argc) + loops(argc) + tail(argc) + (int)floats(argc) + mayQuit(2);
}
void _start(void) { quits(main(1, 0)); }
`;
const REST = `
int slow(int x) { return x * 7; }
int other(int x) { return x + 1; }
double real(double a) { return a + 1; }
void note(const char *text) { (void)text; }
void abort(void) { for (;;) __asm__ volatile(""); }
`;
const FUNCTIONS = 'table wide condition dies loops tail floats mayQuit main _start'.split(' ');

interface Line {
  readonly address: bigint;
  readonly name: string;
  /** Where a branch or a call goes to. */
  readonly target: bigint | undefined;
}

/** The instructions of each function as objdump lists them. */
function listing(path: string): Map<string, Line[]> {
  const text = execFileSync(OBJDUMP, ['-d', '-M', 'no-aliases', path], { encoding: 'utf8', maxBuffer: 1 << 28 });
  const functions = new Map<string, Line[]>();
  let lines: Line[] = [];
  for (const line of text.split('\n')) {
    const head = /^[0-9a-f]+ <(.*)>:$/.exec(line);
    if (head) {
      lines = [];
      functions.set(head[1]!, lines);
      continue;
    }
    const match = /^\s*([0-9a-f]+):\t[0-9a-f ]+?\s*\t(\S+)(?:\t(.*))?$/.exec(line);
    if (!match) continue;
    const target = /(?:^|,)([0-9a-f]+) <[^>]*>$/.exec(match[3] ?? '');
    const name = match[2]!.replace(/^c\./, '');
    lines.push({ address: BigInt(`0x${match[1]}`), name, target: target ? BigInt(`0x${target[1]}`) : undefined });
  }
  return functions;
}

const BRANCHES = /^(beq|bne|blt|bge|bltu|bgeu|beqz|bnez)$/;

function compare(flow: FunctionFlow, lines: readonly Line[]): void {
  const ours = flow.blocks.flatMap(({ instructions }) => instructions.map(({ address }) => address));
  const hexes = (addresses: readonly bigint[]) => addresses.map((address) => address.toString(16));
  // Zeros between functions are shown as if they were of the one before.
  const theirs = lines.filter(({ name }) => name !== 'unimp');
  assert.deepEqual(hexes(ours), hexes(theirs.map(({ address }) => address)), `${flow.name}: instructions`);
  let branches = 0;
  for (const { address, name, target } of theirs) {
    const place = flow.find(address)!;
    const block = flow.blocks[place.block]!;
    const isLast = place.index === block.instructions.length - 1;
    if (BRANCHES.test(name)) {
      assert.ok(isLast && block.control?.kind === 'branch' && block.control.target === target, `${flow.name}: ${name}`);
      branches++;
    } else if (name === 'jal' && target !== undefined) {
      const { control } = block;
      assert.ok(isLast && (control?.kind === 'call' || control?.kind === 'jump') && control.target === target);
    } else if (name === 'j') {
      assert.ok(isLast && block.control?.kind === 'jump' && block.control.target === target);
    }
  }
  assert.equal(branchPoints(flow).length, branches, `${flow.name}: decisions`);
}

const folder = skip ? '' : mkdtempSync(join(tmpdir(), 'braid-flow-'));
after(() => {
  if (folder) rmSync(folder, { recursive: true });
});

const VARIANTS: Readonly<Record<string, readonly string[]>> = {
  'static, -O2': ['-O2', '-static'],
  'static, -Os, no compressed instructions': ['-Os', '-static', '-march=rv64g'],
  'static, -O2, medany': ['-O2', '-static', '-mcmodel=medany'],
  'position-independent, -O1': ['-O1', '-fPIE', '-pie'],
  'position-independent, -O2': ['-O2', '-fPIE', '-pie'],
  'static, -O0': ['-O0', '-static'],
};

describe('functions that GCC made', { skip }, () => {
  Object.entries(VARIANTS).forEach(([title, flags], n) => {
    test(title, () => {
      const path = join(folder, `program${n}`);
      for (const [name, text] of Object.entries({ source: SOURCE, rest: REST })) {
        writeFileSync(join(folder, `${name}.c`), text);
      }
      const sources = [join(folder, 'source.c'), join(folder, 'rest.c')];
      const common = ['-nostdlib', '-ffreestanding', '-fno-stack-protector', '-Wl,--build-id=none', '-o', path];
      const built = spawnSync(COMPILER, [...flags, ...common, ...sources], { encoding: 'utf8' });
      assert.equal(built.status, 0, built.stderr);
      const code = new ProgramCode(readFileSync(path));
      const listed = listing(path);
      for (const symbol of FUNCTIONS) {
        const flow = functionAt(code, { symbol });
        assert.deepEqual(flow.unresolved, [], symbol);
        compare(flow, listed.get(symbol)!);
      }

      // The condition that a slow function computes: the clones begin in front of its call.
      const slow = code.symbol('slow').address;
      const found = branchPoints(functionAt(code, { symbol: 'condition' }));
      assert.equal(found.length, 1);
      assert.equal(found[0]!.calls.at(-1)!.target, slow);
      assert.equal(found[0]!.forkPoint, found[0]!.calls[0]!.address);
      assert.notEqual(found[0]!.completion, 'return');
      assert.equal(found[0]!.frame.forkPoint, found[0]!.frame.completion);
      assert.notEqual(found[0]!.frame.forkPoint, undefined);

      // A way that dies is no way: the other one is the completion.
      for (const symbol of ['dies', 'mayQuit']) {
        const [point] = branchPoints(functionAt(code, { symbol }));
        assert.ok(point!.completes.includes(false) && point!.completes.includes(true), symbol);
        assert.equal(point!.completion, point!.outcomes[point!.completes.indexOf(true)]);
      }
    });
  });

  test('a shared object: imported functions that do not return are known by their names', () => {
    const path = join(folder, 'shared.so');
    const source = join(folder, 'shared.c');
    const text = `
      extern void abort(void), hello(void);
      int f(int x) { if (x == 1) abort(); if (x == 2) hello(); return x; }
    `;
    writeFileSync(source, text);
    const flags = ['-O1', '-shared', '-fPIC', '-ffreestanding', '-nostdlib', '-o', path, source];
    const built = spawnSync(COMPILER, flags, { encoding: 'utf8' });
    assert.equal(built.status, 0, built.stderr);
    const bias = 0x2a_0000_0000n;
    const points = branchPoints(functionAt(readFileSync(path), { symbol: 'f' }, bias));
    assert.deepEqual(
      points.map(({ completes }) => completes.filter((completes) => completes).length),
      [1, 2],
    );
    for (const { completion } of points) assert.ok(completion !== 'return' && completion > bias);
  });
});
