/** Recorded runs repeated from their logs: bare programs with every kind of input, and the default guest with its agent. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { stateHash } from '../machine/hash.ts';
import { formatPosition, LogReader, ReplayError } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import { decodeState, encodeState } from '../state/encode.ts';
import { StateError } from '../state/errors.ts';
import { randomEvent } from '../testing/inputs.ts';
import { guestMissing, linuxMachine, recipeMachine, runSteps, runs, SEED, sharedEngine } from '../testing/machines.ts';
import { disturb, perturbedEngines, Twin } from '../testing/perturbed.ts';
import type { Recipe } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import { record, replay, restoreLoggedRun, saveLoggedRun } from './logged-run.ts';

const recipe: fc.Arbitrary<Recipe> = fc.record({
  harts: fc.integer({ min: 1, max: 8 }),
  sbi: fc.boolean(),
  seed: fc.integer({ min: 0, max: 0xffff_ffff }),
  rounds: fc.constant(200),
});
const choices = fc.integer({ min: 0, max: 0xffff_ffff }).map((seed) => new Random(seed));
const STEPS = 10_000;

/** Runs with inputs at random times; an idle machine whose gaps are not skipped is moved on by hand, as a host in wall time does. */
function eventful(machine: Machine, steps: number, choices: Random): void {
  for (let done = 0, turns = 0; done < steps && turns < 400; turns++) {
    if (choices.chance(0.5)) machine.input(randomEvent(choices));
    const piece = Math.min(steps - done, 1 + choices.below(600));
    const before = machine.totalSteps;
    const stop = machine.run(piece);
    done += Number(machine.totalSteps - before);
    if (stop.reason === 'exit') return;
    if (stop.reason === 'idle') {
      const gap = stop.until === undefined ? 1000n : stop.until - machine.now;
      // Part of the gap, all of it, or more.
      machine.input({ kind: 'time', advance: (gap * BigInt(1 + choices.below(12))) / 8n });
    }
  }
}

function summary(machine: Machine): { hash: string; position: string; now: bigint } {
  return { hash: stateHash(machine), position: formatPosition(machine.position), now: machine.now };
}

test(`a run with inputs at random times is repeated from its log, through bytes and disturbed (seed ${SEED})`, () => {
  let events = 0;
  fc.assert(
    fc.property(recipe, fc.integer({ min: 1, max: 2000 }), choices, (recipe, slice, choices) => {
      const machine = recipeMachine(recipe, { slice });
      // The recording may begin anywhere.
      runSteps(machine, choices.below(3000));
      const recording = record(machine);
      const before = machine.totalSteps;
      eventful(machine, STEPS, choices);
      const steps = Number(machine.totalSteps - before);
      const expected = summary(machine);
      events += machine.log.length - recording.from;
      const stored = encodeState(saveLoggedRun(recording));
      machine.free();

      const loaded = restoreLoggedRun(decodeState(stored));
      const again = replay(sharedEngine(), loaded);
      runSteps(again, steps);
      assert.deepEqual(summary(again), expected);
      assert.ok(again.following?.finished, 'every event was used');
      assert.deepEqual(again.log.events, loaded.log.events);
      again.free();

      const twin = new Twin(replay(sharedEngine(), loaded));
      const engine = choices.pick(perturbedEngines());
      const disturbed = disturb(replay(engine, loaded), steps, choices, { twin });
      assert.deepEqual(summary(disturbed), expected);
      disturbed.free();
      twin.free();
    }),
    runs(60),
  );
  assert.ok(events > 100, `${events} events`);
});

test('a replay that ends goes on as a machine of its own', () => {
  const recipe: Recipe = { harts: 2, sbi: false, seed: 5, rounds: 500 };
  const machine = recipeMachine(recipe);
  const recording = record(machine);
  runSteps(machine, 2000);
  const expected = summary(machine);
  const again = replay(sharedEngine(), recording);
  again.input({ kind: 'console', bytes: Uint8Array.of(1) });
  runSteps(again, 2000);
  assert.deepEqual(summary(again), expected);
  again.follow(undefined);
  runSteps(again, 200_001);
  assert.equal(again.log.events.at(-1)?.event.kind, 'console');
  machine.free();
  again.free();
});

test('a log that belongs to another run is noticed', () => {
  const machine = recipeMachine({ harts: 2, sbi: false, seed: 5, rounds: 500 }, { slice: 100 });
  const recording = record(machine);
  for (let i = 0; i < 20; i++) {
    machine.input({ kind: 'time', advance: 7n });
    runSteps(machine, 150);
  }
  const other = recipeMachine({ harts: 2, sbi: false, seed: 5, rounds: 500 }, { slice: 170 });
  other.follow(new LogReader(recording.log));
  assert.throws(() => runSteps(other, 6000), ReplayError);
  machine.free();
  other.free();
});

describe('records from outside are checked', () => {
  const position = { round: 1n, hart: 0, step: 0 };
  const event = { kind: 'console', bytes: Uint8Array.of(1) };
  const log = (...events: unknown[]) => ({ version: 1, initial: {}, log: { version: 1, events } });
  const good = { position, time: 5n, event };
  const bad: [string, unknown][] = [
    ['nothing', undefined],
    ['another version', { ...log(), version: 2 }],
    ['events that are no list', { version: 1, initial: {}, log: { version: 1, events: {} } }],
    ['an event inside a slice', log({ ...good, position: { ...position, step: 4 } })],
    ['a hart that no machine has', log({ ...good, position: { ...position, hart: 8 } })],
    ['time that goes back', log(good, { ...good, time: 4n })],
    ['positions that go back', log(good, { ...good, position: { ...position, round: 0n } })],
    ['an unknown event', log({ ...good, event: { kind: 'magic' } })],
    ['an unknown field', log({ ...good, event: { ...event, more: 1 } })],
    ['a port that is not there', log({ ...good, event: { kind: 'port', port: 7, bytes: event.bytes } })],
    ['a terminal of no size', log({ ...good, event: { kind: 'resize', columns: -1, rows: 3 } })],
  ];
  for (const [name, record] of bad) {
    test(name, () => assert.throws(() => restoreLoggedRun(record), StateError));
  }
  test('good ones pass', () => assert.equal(restoreLoggedRun(log(good)).log.length, 1));
});

test('the default guest: typing and programs run by its agent are repeated', { skip: guestMissing }, () => {
  const choices = new Random(SEED);
  const machine = linuxMachine({ harts: 2 });
  const recording = record(machine);
  let output = '';
  let exits = 0;
  const exec = (argv: string[]) =>
    machine.agent.exec(
      { argv },
      {
        output: (_, bytes) => {
          output += new TextDecoder().decode(bytes);
        },
        exit: () => {
          exits++;
        },
      },
    );
  exec(['echo', 'first']);
  for (let turn = 0; turn < 4000 && exits < 2; turn++) {
    if (exits === 1 && turn % 50 === 0) exec(['sh', '-c', 'echo second; date']);
    if (choices.chance(0.05)) machine.input({ kind: 'console', bytes: new TextEncoder().encode('echo typed\n') });
    if (choices.chance(0.05)) machine.input({ kind: 'time', advance: BigInt(choices.below(100_000)) });
    const stop = machine.run(1 + choices.below(400_000));
    assert.notEqual(stop.reason, 'exit');
  }
  assert.match(output, /first\n(.*\n)*second\n/);
  const expected = summary(machine);
  const steps = Number(machine.totalSteps);
  machine.free();
  const again = replay(sharedEngine(), recording);
  runSteps(again, steps);
  assert.deepEqual(summary(again), expected);
  assert.ok(again.following?.finished);
  again.free();
});
