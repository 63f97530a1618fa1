/** The guest programs of examples/: they are what their sources make, and each search has something to find, and one thing. */

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import crash from '../examples/crash/search.ts';
import repair from '../examples/repair/search.ts';
import { type Branched, type Explored, explore, type SearchNode } from '../packages/core/src/index.ts';
import { guestMissing } from '../packages/core/src/testing/machines.ts';
import { explore as exploreMachine, Machine, Pool } from '../packages/node/src/index.ts';

const folder = join(import.meta.dirname, '../examples');
const versionFile = join(folder, 'lib/COMPILER');
const EXAMPLES = ['crash', 'race', 'repair'];

const firstLine = (command: string) => spawnSync(command, ['--version'], { encoding: 'utf8' }).stdout?.split('\n')[0];
const compiler = firstLine('riscv64-linux-gnu-gcc');
const installed = compiler && `${compiler}\n${firstLine('riscv64-linux-gnu-ld')}\n`;

function otherCompiler(): string | false {
  if (!installed) return 'riscv64-linux-gnu-gcc is not installed';
  if (process.env.BLESS === '1') {
    for (const name of EXAMPLES) build(name, join(folder, name, 'prebuilt'));
    writeFileSync(versionFile, installed);
  }
  return installed !== readFileSync(versionFile, 'utf8') && 'another compiler than that of lib/COMPILER is installed';
}

function build(name: string, out: string): void {
  const built = spawnSync(join(folder, name, 'build.sh'), [out], { encoding: 'utf8' });
  assert.equal(built.status, 0, built.stderr);
}

test('the committed programs are what the sources make (BLESS=1 rebuilds them)', { skip: otherCompiler() }, (t) => {
  for (const name of EXAMPLES) {
    const out = mkdtempSync(join(tmpdir(), 'braid-example-'));
    t.after(() => rmSync(out, { recursive: true }));
    build(name, out);
    const committed = join(folder, name, 'prebuilt');
    assert.deepEqual(readdirSync(out), readdirSync(committed));
    for (const file of readdirSync(out)) {
      assert.deepEqual(readFileSync(join(out, file)), readFileSync(join(committed, file)), `${name}/${file}`);
      assert.ok(statSync(join(committed, file)).size < 60_000);
    }
  }
});

const noQemu = spawnSync('qemu-riscv64', ['--version']).status === 0 ? false : 'qemu-riscv64 is not installed';

test('one candidate of repair passes the tests, and the program as it is does not', { skip: noQemu }, (t) => {
  const work = mkdtempSync(join(tmpdir(), 'braid-example-'));
  t.after(() => rmSync(work, { recursive: true }));
  cpSync(join(folder, 'repair'), work, { recursive: true });
  const passing = readdirSync(join(work, 'prebuilt')).filter((name) => {
    const run = join(work, 'run');
    // One of them never ends.
    writeFileSync(run, `#!/bin/sh\nexec timeout 2 qemu-riscv64 ${work}/prebuilt/${name} "$@"\n`, { mode: 0o755 });
    return spawnSync('sh', [join(work, 'test.sh'), run], { stdio: 'ignore' }).status === 0;
  });
  assert.deepEqual(passing, ['6-count-space']);
});

/** The parser of crash, fed with a text: each move is a byte more, and it starts anew for each. */
class Fed implements Explored<string, Fed> {
  readonly program: string;
  readonly text: string;
  /** What it said last about how far it is. */
  readonly said: string;

  constructor(program: string, text: string, said: string) {
    this.program = program;
    this.text = text;
    this.said = said;
  }

  branch(moves: readonly string[]): Promise<Branched<Fed>>[] {
    return moves.map(async (move) => {
      const text = this.text + move;
      const child = spawn(this.program, ['-v'], { stdio: ['pipe', 'pipe', 'ignore'] });
      // It may end before it has read everything.
      child.stdin.on('error', () => {});
      child.stdin.end(text);
      let output = '';
      child.stdout.setEncoding('latin1').on('data', (part: string) => {
        output += part;
      });
      const signal = await new Promise<string | null>((done) => child.on('close', (_, signal) => done(signal)));
      const ended = signal ?? (output.includes('error: ') ? 'refused' : undefined);
      const state = new Fed(this.program, text, output.match(/^.* places .*$/gm)?.at(-1) ?? '');
      return { state, steps: 1n, ...(ended === undefined ? {} : { ended }) };
    });
  }

  async release(): Promise<void> {}
}

const noCompiler = spawnSync('cc', ['--version']).status === 0 ? false : 'cc is not installed';
const skip = process.platform === 'linux' ? noCompiler : 'the exit by a signal is looked for as Linux has it';

test('a search by places reached finds the bug of crash, and the committed program has it', { skip }, async (t) => {
  const work = mkdtempSync(join(tmpdir(), 'braid-example-'));
  t.after(() => rmSync(work, { recursive: true }));
  const program = join(work, 'settings');
  const built = spawnSync('cc', ['-O1', '-fno-pie', '-no-pie', '-o', program, join(folder, 'crash/target.c')], {
    encoding: 'utf8',
  });
  assert.equal(built.status, 0, built.stderr);
  const said = ({ state }: SearchNode<string, Fed>) => state!.said;
  const tree = await explore<string, Fed>(new Fed(program, '', ''), {
    moves: () => ['a', '"', '=', ';', '\\', 'U'],
    score: (node) => Number.parseInt(said(node) || '0', 10),
    stop: ({ ended }) => ended === 'SIGSEGV',
    dedupe: said,
    strategy: 'beam',
    width: 16,
    parallel: 2,
    budget: { nodes: 3000 },
  });
  assert.equal(tree.end, 'found');
  const input = tree.winner!.state!.text;
  assert.ok(input.length > 12, input);
  // Any part of it is harmless.
  assert.equal(spawnSync(program, { input: input.slice(0, -1) }).signal, null);
  if (!noQemu) {
    const run = spawnSync('qemu-riscv64', [join(folder, 'crash/prebuilt/settings')], { input, cwd: work });
    assert.equal(run.signal ?? run.status, 'SIGSEGV');
  }
});

/** A machine that is up and at the state that a search begins from. */
async function prepared(script: typeof crash, pool: Pool): Promise<Machine> {
  const machine = await Machine.create({ seed: 1n, pool });
  await machine.boot();
  await script.setup!(machine);
  return machine;
}

test('crash in the guest: the input that is found crashes the program when it is given anew', {
  skip: guestMissing,
}, async () => {
  await using pool = new Pool();
  const machine = await prepared(crash, pool);
  await using tree = await exploreMachine(machine, crash);
  assert.equal(tree.end, 'found');
  const input = tree.path(tree.winner!).map(tree.name).join('');
  assert.ok(input.length > 12, input);
  const run = (of: Machine, input: string) => of.exec(['/root/settings'], { input });
  assert.equal((await run(machine, input)).signal, 11);
  assert.equal((await run(machine, input.slice(0, -1))).exitCode, 0);
  // The console of the machine that becomes the winner shows what the program said on the way.
  let console = '';
  machine.onConsole((bytes) => {
    console += Buffer.from(bytes).toString();
  });
  await tree.adopt();
  await machine.exec(['true']);
  assert.equal(console.match(/\d+ places/g)!.length, input.length - 1);
  assert.match(console, /Segmentation fault/);
});

test('repair in the guest: the first that passes is adopted, the same on one thread and on two', {
  skip: guestMissing,
}, async () => {
  const hashes: string[] = [];
  for (const threads of [1, 2]) {
    await using pool = new Pool({ threads });
    const machine = await prepared(repair, pool);
    const passes = async () =>
      (await machine.exec(['sh', 'test.sh', './wrap'], { cwd: '/root/repair' })).exitCode === 0;
    assert.ok(!(await passes()));
    const { used } = pool.memory;
    {
      await using tree = await exploreMachine(machine, repair);
      assert.deepEqual(tree.path(tree.winner!).map(tree.name), ['6-count-space']);
      hashes.push(JSON.stringify(tree));
      await tree.adopt();
      hashes.push(await machine.stateHash());
    }
    assert.ok(await passes());
    assert.ok(pool.memory.used < used + 4096, 'what the losers held is free again');
  }
  assert.deepEqual(hashes.slice(2), hashes.slice(0, 2));
});
