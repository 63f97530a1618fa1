/** Differences planted at known places, and found there. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../devices/virtio-block/backend.ts';
import { comparePositions, EventLog, formatPosition, LogReader, type Position } from '../machine/log.ts';
import type { Machine } from '../machine/machine.ts';
import { RAM_BASE } from '../memory/layout.ts';
import { bareMachine, recipeMachine, runSteps, SEED } from '../testing/machines.ts';
import { buildProgram, type Recipe } from '../testing/programs.ts';
import { Random } from '../testing/random.ts';
import { bisect, formatParting } from './bisect.ts';
import { differences } from './differences.ts';

const recipe: Recipe = { harts: 3, sbi: false, seed: 11, rounds: 10_000 };
const slice = 400;
const options = { maxSteps: 200_000 };
const choices = new Random(SEED);
const make = () => recipeMachine(recipe, { slice });

/** A machine in which something happens once it has made so many steps, however it is run. */
function planted(steps: number, plant: (machine: Machine) => void, machine = make()): Machine {
  const run = machine.run.bind(machine);
  let done = false;
  machine.run = (limit) => {
    const left = steps - Number(machine.totalSteps);
    if (done || limit === undefined || limit < left) return run(limit);
    if (left > 0) {
      const stop = run(left);
      if (Number(machine.totalSteps) < steps) return stop;
    }
    plant(machine);
    done = true;
    return run(limit - left);
  };
  return machine;
}

test('equal runs do not part', () => {
  const seen: number[] = [];
  assert.equal(
    bisect(make, make, { maxSteps: 20_000, progress: (steps, equal) => seen.push(equal ? steps : -1) }),
    undefined,
  );
  assert.deepEqual(seen, [0, 1000, 3000, 7000, 15_000, 20_000]);
});

test('runs with a common end do not part', () => {
  const short = () => recipeMachine({ ...recipe, rounds: 3 });
  assert.equal(bisect(short, short, { maxSteps: 1e9 }), undefined);
});

test('different images part at once', () => {
  const found = bisect(make, () => recipeMachine({ ...recipe, seed: 12 }, { slice }), options);
  assert.equal(found?.steps, 0);
  assert.match(formatParting(found), /ram 0x8000/);
});

/** A probe stands where the event entered, or behind the empty slices of waiting harts: at a boundary, no step later. */
function assertReached(found: Position, event: Position): void {
  const text = `${formatPosition(found)} for an event at ${formatPosition(event)}`;
  assert.ok(comparePositions(found, event) >= 0 && found.step === 0 && found.round - event.round <= 1n, text);
}

describe('a log with one event more, or another one', () => {
  // The run to take positions from.
  const log = new EventLog();
  const machine = make();
  for (let turn = 0; turn < 40; turn++) {
    machine.input({ kind: 'console', bytes: Uint8Array.of(turn) });
    runSteps(machine, 1 + choices.below(3000));
  }
  for (const { position, time, event } of machine.log.events) log.append(position, time, event);
  machine.free();
  const at = 15 + choices.below(15);
  const start = () => {
    const machine = recipeMachine(recipe, { slice });
    return machine;
  };
  const following = (events: EventLog) => () => {
    const machine = start();
    machine.follow(new LogReader(events));
    return machine;
  };

  test(`event ${at} has another byte`, () => {
    const other = new EventLog();
    for (const [n, { position, time, event }] of log.events.entries()) {
      other.append(position, time, n === at ? { kind: 'console', bytes: Uint8Array.of(255) } : event);
    }
    const found = bisect(following(log), following(other), options);
    assert.ok(found);
    assertReached(found.after.a, log.events[at]!.position);
    assert.equal(found.onlyFromStart, false);
    assert.deepEqual(
      found.differences.map(({ where }) => where),
      ['uart.inbox'],
    );
  });

  test(`event ${at} is missing`, () => {
    const other = new EventLog();
    for (const [n, { position, time, event }] of log.events.entries())
      if (n !== at) other.append(position, time, event);
    const found = bisect(following(log), following(other), options);
    assert.ok(found);
    assertReached(found.after.b, log.events[at]!.position);
  });
});

describe('what is planted into a run that starts over for each probe', () => {
  // A plant is no state and no event, so it is there only in runs from the start.
  const steps = 3000 + choices.below(20_000);
  const untouched = RAM_BASE + 0x100_0000;

  test(`a byte in RAM after step ${steps}`, () => {
    const poke = (machine: Machine) => machine.ram.write(untouched + 0x123, Uint8Array.of(0x5a));
    const found = bisect(make, () => planted(steps, poke), options);
    assert.ok(found);
    assert.equal(found.steps, steps);
    assert.equal(found.onlyFromStart, true);
    assert.deepEqual(found.differences, [
      {
        where: `ram 0x${(untouched + 0x120).toString(16)}`,
        a: '00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00',
        b: '00 00 00 5a 00 00 00 00 00 00 00 00 00 00 00 00',
      },
    ]);
    assert.match(found.instruction ?? '', /^hart [0-2] at 0x8/);
    assert.match(formatParting(found), new RegExp(`part in step ${steps}, which began at`));
  });

  test(`a register and a CSR after step ${steps}`, () => {
    const change = (machine: Machine) => {
      const hart = machine.hartSet.record(1);
      hart.setX(27, hart.getX(27) ^ 0x100n);
      hart.set('sscratch', hart.get('sscratch') ^ 1n);
    };
    const found = bisect(make, () => planted(steps, change), options);
    assert.equal(found?.steps, steps);
    assert.deepEqual(
      found?.differences.map(({ where }) => where),
      ['hart 1 x27 (s11)', 'hart 1 sscratch'],
    );
  });
});

test('machines with disks start over, and their disks are compared', () => {
  const { image } = buildProgram(recipe);
  const disk = () => new MemoryBackend(new Uint8Array(1 << 16));
  const withDisk = () => bareMachine(image, { harts: 3, slice, disks: [{ backend: disk() }] });
  const change = (machine: Machine) => {
    void machine.platform.backends[0]!.write(0x8008, Uint8Array.of(7));
  };
  const found = bisect(withDisk, () => planted(5000, change, withDisk()), options);
  assert.equal(found?.steps, 5000);
  assert.deepEqual(found?.differences, [
    {
      where: 'disk 0 at 0x8008',
      a: '00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00',
      b: '07 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00',
    },
  ]);
});

test('differences of machines of different shape', () => {
  const a = recipeMachine({ ...recipe, harts: 1 });
  const b = recipeMachine({ ...recipe, harts: 2 }, { memory: 64 * 2 ** 20 });
  b.ram.write(RAM_BASE + 40 * 2 ** 20, Uint8Array.of(1));
  const found = new Map(differences(a, b).map(({ where, a, b }) => [where, [a, b]]));
  assert.deepEqual(found.get('hart 1'), ['not there', 'there']);
  assert.deepEqual(found.get('configuration.memory'), ['33554432', '67108864']);
  assert.ok(found.has('ram 0x82800000'));
  // As many pages as one wants to look at, and a count of the rest.
  for (let page = 0; page < 100; page++) b.ram.write(RAM_BASE + 0x80_0000 + page * 4096, Uint8Array.of(9));
  const many = differences(a, b);
  assert.ok(many.filter(({ where }) => where.startsWith('ram')).length < 40);
  assert.ok(many.some(({ a }) => /more pages differ/.test(a)));
  a.free();
  b.free();
});
