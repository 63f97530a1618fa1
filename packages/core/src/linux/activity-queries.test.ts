import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { runs } from '../testing/machines.ts';
import { ActivityEvents, CONTEXT, KINDS, LEAVE, packLeave, unpackLeave } from './activity-events.ts';
import { ActivityQueries, contextName, type RecordedTask } from './activity-queries.ts';
import { duration, summarize, summaryText } from './activity-summary.ts';
import { traceJson } from './chrome-trace.ts';

class Made extends ActivityQueries {
  readonly events = new ActivityEvents(1000);
  readonly tasks: RecordedTask[] = [0, 1, 2, 2].map((pid, i) => ({
    address: BigInt(i),
    pid,
    tgid: pid,
    kernel: pid < 1,
    comms: [{ time: 0, comm: `task\n${i}` }],
  }));
}

test('what a switch tells is read back', () => {
  fc.assert(
    fc.property(fc.constantFrom(...LEAVE), fc.nat(0xffff), fc.nat(0x1fff), (why, state, context) => {
      assert.deepEqual(unpackLeave(packLeave(why, state, context)), { why, state, context });
    }),
    runs(200),
  );
});

test('events in any order, as a guest that forges its tasks may cause, give answers of spans with an end', () => {
  const event = fc.tuple(
    fc.constantFrom(...KINDS),
    fc.nat(100),
    fc.nat(1),
    fc.nat(3),
    fc.nat(3),
    fc.oneof(fc.constantFrom(0, -1, 2 ** 40), fc.nat(2 ** 20)),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (list) => {
      const made = new Made();
      let time = 0;
      for (const [kind, wait, hart, task, other, value] of list) {
        time += wait;
        made.events.push(kind, time, 3 * time, hart, task, other, kind === 'switch' ? Math.abs(value) : value);
      }
      const spans = [made.slices(), made.waits(), made.calls(), made.faults(), made.interrupts()];
      for (const kind of spans)
        for (const { from, to, fromStep, toStep } of kind)
          assert.ok(from <= to && fromStep === 3 * from && toStep === 3 * to);
      for (const { task } of made.slices({ pid: 2, hart: 1, from: 10, to: 900 })) assert.equal(task.pid, 2);
      assert.ok(summarize(made).tasks.length <= 3);
      JSON.parse([...traceJson(made)].join(''));
      assert.doesNotMatch(summaryText(made), /task\n/);
    }),
    {
      ...runs(300),
      // An idle task is woken up, as in no kernel.
      examples: [
        [
          [
            ['wakeup', 89, 0, 0, 0, 98330],
            ['switch', 100, 0, 2, 0, 0],
            ['start', 52, 1, 3, 2, 0],
            ['switch', 96, 1, 1, 3, -1],
            ['end', 91, 1, 0, 1, 105405],
            ['resting', 20, 0, 3, 2, 296759],
          ],
        ],
      ],
    },
  );
});

test('a list that is full keeps what came first, and its end', () => {
  const events = new ActivityEvents(2);
  for (const time of [5, 6, 7, 8]) assert.equal(events.push('call', time, time, 0, 0, 0, 0), time < 7);
  events.push('end', 7, 7, 0, 0, 0, 0);
  assert.deepEqual(
    [...events].map(({ kind, time }) => [kind, time]),
    [
      ['call', 5],
      ['call', 6],
      ['end', 7],
    ],
  );
  assert.deepEqual(events.full, { time: 7, step: 7 });
});

test('contexts and times as people read them', () => {
  assert.equal(contextName(CONTEXT.none), '');
  assert.equal(contextName(CONTEXT.fault), 'page fault');
  assert.equal(contextName(CONTEXT.call + 63), 'read');
  assert.equal(contextName(CONTEXT.irq + 5), 'interrupt: timer');
  assert.equal(contextName(CONTEXT.softirq), 'softirq');
  const times = [0, 999, 1000, 123_456, 1_234_567, 61e9].map(duration);
  assert.deepEqual(times, ['0 ns', '999 ns', '1 us', '123 us', '1.23 ms', '61 s']);
});
