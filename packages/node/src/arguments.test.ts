/**
 * Arguments of public calls: each call of each class is given values that nobody should give, one at a time, in every place. The call says
 * so by `ERR_BRAID_OPTION`, or takes a value that is good; the machine and the others of its thread run on.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CallsOf } from '@braid/core/check/calls.ts';
import type { Schema } from '@braid/core/check/schema.ts';
import fc from 'fast-check';
import { instanceOf } from './check.ts';
import {
  type BraidError,
  type CreateOptions,
  complete,
  diff,
  explore,
  Machine,
  Pool,
  type PoolOptions,
  Replay,
  speculate,
} from './index.ts';
import { machineCalls, STATIC_CALLS } from './machine-calls.ts';
import { REPLAY_CALLS, STATIC_CALLS as STATIC_REPLAY_CALLS } from './replay/replay-calls.ts';
import { exitProgram, temporaryFolder } from './testing.ts';

const seed = Number(process.env.BRAID_SEED ?? 1);

// biome-ignore lint/suspicious/noExplicitAny: calls are made with anything on purpose
type AnyCall = (...args: any[]) => unknown;
type Row = readonly { readonly name: string; readonly schema: Schema<never> }[];

/** As from JSON, from arithmetic that went wrong, from a typing error. */
const NONSENSE: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    -1,
    -1n,
    -0,
    0.5,
    2 ** 53,
    2 ** 64,
    1n << 64n,
    1n << 200n,
    '',
    '5',
    'a\0b',
    '\ud800',
    true,
    [],
    [null],
    [[]],
    {},
    { unknown: 1 },
    new Date(Number.NaN),
    Symbol('nothing'),
    () => {
      throw new Error('called');
    },
    new Uint8Array(0),
  ),
  fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withTypedArray: true }),
);

/** A place among the arguments of a call: an argument, or a field of one. */
interface Place {
  readonly call: string;
  readonly row: Row;
  readonly n: number;
  readonly path: readonly string[];
}

function placesOf(calls: CallsOf<never>): Place[] {
  const rows = Object.entries({ ...calls.rejects, ...calls.throws }) as [string, Row][];
  return rows.flatMap(([call, row]) =>
    row.flatMap(({ schema }, n) => pathsOf(schema).map((path) => ({ call, row, n, path }))),
  );
}

function pathsOf({ fields }: Schema<never>): string[][] {
  const inner = Object.entries(fields ?? {}).flatMap(([name, schema]) =>
    pathsOf(schema).map((path) => [name, ...path]),
  );
  return [[], ...inner];
}

/** A value with another one at a place in it. */
function replaced(value: unknown, [name, ...path]: readonly string[], by: unknown): unknown {
  if (name === undefined) return by;
  const record = (value ?? {}) as Record<string, unknown>;
  return { ...record, [name]: replaced(record[name], path, by) };
}

/** Makes calls with nonsense, until each has had some in each of its places. */
async function callBadly(
  calls: object,
  target: object,
  good: Readonly<Record<string, readonly unknown[]>>,
): Promise<void> {
  const places = placesOf(calls as CallsOf<never>);
  const refused = new Set<Place>();
  const attempt = async (place: Place, nonsense: unknown) => {
    const { call, row, n, path } = place;
    const known = good[call];
    assert.ok(known, `${call} has no good arguments here`);
    const args = [...known];
    args[n] = replaced(args[n], path, nonsense);
    const complaint = row[n]!.schema.complaint(args[n], row[n]!.name);
    if (complaint === undefined) return;
    refused.add(place);
    const made = (async () => (Reflect.get(target, call) as AnyCall).apply(target, args))();
    await assert.rejects(made, ({ code, message }: BraidError) => {
      assert.equal(code, 'ERR_BRAID_OPTION', `${call}: ${message}`);
      assert.equal(message, complaint);
      return true;
    });
  };
  await fc.assert(fc.asyncProperty(fc.constantFrom(...places), NONSENSE, attempt), { seed, numRuns: 4000 });
  // A symbol is good nowhere, so every place has refused something then.
  for (const place of places) await attempt(place, Symbol('nothing'));
  assert.equal(refused.size, places.length);
}

const small: CreateOptions = { memory: '64M', seed: 1 };

test('calls of a machine, with nonsense in every place', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  await using pool = new Pool({ threads: 1 });
  const machine = await Machine.create({ ...small, pool });
  const neighbour = await Machine.create({ ...small, pool });
  await Promise.all([machine.boot(), neighbour.boot()]);
  const [clone] = await machine.fork();
  const base = await machine.forkPoint();
  const program = machine.spawn(['cat'], { input: 'stream' });
  const position = await machine.pause();
  const u64 = 0x1000n;
  const ways = { reads: new Set([1]), writes: new Set([1]), sets: new Set([1]) };
  const decision = {
    forkPoint: u64,
    decisionPoint: u64,
    outcomes: [u64, u64],
    completes: [true, true],
    completion: 'return',
    calls: [],
    frame: {},
    ways: [ways, ways],
    live: new Set([1]),
    exits: [u64],
  };
  await callBadly(machineCalls(instanceOf<Machine>('a Machine', Machine)), machine, {
    fork: [1, {}],
    decide: [decision, {}],
    reset: [base],
    adopt: [clone],
    branches: [{}],
    merge: [clone, { base }],
    copy: [clone, {}],
    gdb: [{}],
    boot: [{}],
    record: [`${folder}/recording`, {}],
    setTime: ['virtual'],
    step: [0, {}],
    runUntil: [{ position }, {}],
    runTo: [{}, {}],
    watchWaits: [{}],
    wait: [{}],
    exec: [['true'], {}],
    typeInto: [program, ''],
    readFile: ['/proc/uptime', {}],
    writeFile: ['/tmp/a', '', {}],
    shutdown: [{}],
    type: [''],
    spawn: [['true'], {}],
    keyOf: [program],
    resize: [80, 24],
    onConsole: [() => {}],
    on: ['exit', () => {}],
  });
  await callBadly(STATIC_CALLS, Machine, { create: [{}], restore: [{}, {}] });
  for (const signal of [Number.NaN, -1, 65, 1.5, '15', null] as number[])
    assert.throws(() => program.kill(signal), { code: 'ERR_BRAID_OPTION', message: /^signal must be/ });
  for (const columns of [Number.NaN, 0, -1, 65_536, '80', null] as number[])
    assert.throws(() => program.resize(columns, 24), { code: 'ERR_BRAID_OPTION', message: /^columns must be/ });
  const writer = program.stdin.getWriter();
  await assert.rejects(writer.write(5 as unknown as string), { code: 'ERR_BRAID_OPTION' });
  for (const one of [machine, neighbour]) assert.equal((await one.exec(['echo', 'ok'])).stdout, 'ok\n');
});

test('calls of a replay, with nonsense in every place', async (t) => {
  const folder = temporaryFolder(t.after.bind(t));
  const path = `${folder}/recording`;
  {
    await using machine = await Machine.create({ bare: exitProgram(0), memory: '32M', seed: 1 });
    await using _recording = await machine.record(path);
    await machine.wait();
  }
  await using replay = await Replay.open(path);
  await callBadly(REPLAY_CALLS, replay, {
    seek: [{ at: 0n }, {}],
    run: [{}],
    on: [0n, () => {}, {}],
    reverse: [[], {}],
    step: [{}],
    reverseStep: [{}],
    lastWrite: [0x8000_0000n, {}],
    divert: [{}],
    gdb: [{}],
  });
  await callBadly(STATIC_REPLAY_CALLS, Replay, { open: [path, {}] });
  await replay.run();
  assert.equal(replay.at, replay.end.at);
});

test('functions and constructors refuse nonsense too', async () => {
  await using machine = await Machine.create({ bare: exitProgram(0), memory: '32M', seed: 1 });
  const cases: [string, () => unknown, RegExp][] = [
    ['pool', () => new Pool({ threads: 0.5 }), /^threads must be an integer from 1 up: got 0.5/],
    ['pool', () => new Pool({ thread: 1 } as PoolOptions), /^thread is unknown: did you mean threads\?/],
    ['diff', () => diff(machine, {} as Machine), /^b must be a Machine or a ForkPoint: got an object/],
    ['diff', () => diff(machine, machine, { limit: -1 }), /^limit must be/],
    ['complete', () => complete(machine, { idle: -1 }), /^idle must be true or an integer from 0 up: got -1/],
    ['complete', () => complete(machine, { step: 5 } as object), /^step is unknown: did you mean steps\?/],
    ['explore', () => explore(machine, { moves: [] as never }), /^moves must be a function: got an array of 0/],
    ['explore', () => explore(machine, { moves: () => [], moveSteps: 0 }), /^moveSteps must be/],
    ['speculate', () => speculate(machine, { guesses: [5] as never }), /^guesses/],
    ['speculate', () => speculate(null as never, {}), /^machine must be a Machine: got null/],
  ];
  for (const [name, call, message] of cases)
    await assert.rejects(async () => call(), { code: 'ERR_BRAID_OPTION', message }, name);
});
