/** What the calls of `Machine` take: see `Machine`. */

import type { WaitOptions as DetectorOptions } from '@braid/core/branch/waits.ts';
import { argument, type CallsOf } from '@braid/core/check/calls.ts';
import {
  callback,
  either,
  type Fields,
  flag,
  integer,
  oneOf,
  optional,
  record,
  type Schema,
  value,
  wide,
} from '@braid/core/check/schema.ts';
import { BRANCH_OPTIONS } from './branch/branches.ts';
import { COPY_OPTIONS, FORK_POINT, MERGE_OPTIONS } from './branch/converge.ts';
import { DECIDE_OPTIONS, DECISION } from './branch/decide.ts';
import { GUEST_PATH } from './branch/guest-files.ts';
import { COUNT, DATA, dataOf, HOST_PATH, PATTERN, POSITION, WAIT } from './check.ts';
import { GDB_OPTIONS } from './gdb/listener.ts';
import type { Machine, MachineEvents, SavedMachine } from './machine.ts';
import { CREATE_OPTIONS, FORK_CHOICE, RESTORE_OPTIONS, TIME } from './options.ts';
import { INPUT } from './pieces.ts';
import type { WaitOptions } from './pool/link.ts';
import type { Goal } from './pool/protocol.ts';
import { ARGV, EXEC_OPTIONS, PROGRAM, SPAWN_OPTIONS } from './programs.ts';
import { RECORD_OPTIONS } from './replay/machine-recording.ts';
import type { Conditions, ProgramKey } from './runner/conditions.ts';

const MAX_FORKS = 1024;
/** What the size of a terminal is counted in. */
const SIDE = integer(1, 65_535);

const WAIT_OPTIONS = argument('options', optional(record<WaitOptions>(WAIT)));

const GOAL: Schema<Goal> = either(
  record<{ readonly steps: bigint }>({ steps: wide(0n, (1n << 63n) - 1n) }),
  record<{ readonly pattern: string | RegExp }>({ pattern: PATTERN }),
  record<Extract<Goal, { readonly position: unknown }>>({ position: POSITION }),
);

const KEY: Schema<ProgramKey> = value(
  'what keyOf gave',
  (given) => (Number.isSafeInteger(given) && (given as number) > 0) || typeof given === 'string',
);
const NS = optional(wide(0n, (1n << 63n) - 1n));

const CONDITIONS: Schema<Conditions> = record<Conditions>({
  console: optional(PATTERN),
  output: optional(record<NonNullable<Conditions['output']>>({ program: KEY, pattern: PATTERN })),
  exited: optional(KEY),
  memory: optional(
    record<NonNullable<Conditions['memory']>>({
      address: wide(0n, (1n << 52n) - 1n),
      bytes: value('a Uint8Array', (given) => given instanceof Uint8Array),
      differs: flag,
    }),
  ),
  done: optional(flag),
  idle: NS,
  steps: NS,
  guestTime: NS,
  tick: NS,
});

const SHARE: Schema<number> = value(
  'a number from 0 to 1',
  (given) => typeof given === 'number' && given >= 0 && given <= 1,
);

const DETECTOR: Fields<Omit<DetectorOptions, 'output'>> = {
  threshold: NS,
  pause: NS,
  occurrences: optional(integer(1)),
  guesses: optional(integer(0)),
  coverage: optional(SHARE),
};

const EVENTS: Schema<keyof MachineEvents> = oneOf('exit', 'panic', 'halt', 'mark', 'error');

type Waiting<T> = WaitOptions & T;

export const STATIC_CALLS: CallsOf<typeof Machine, 'divert'> = {
  rejects: {
    create: [argument('options', optional(CREATE_OPTIONS))],
    restore: [
      argument('saved', dataOf<SavedMachine>('what save gave')),
      argument('options', optional(RESTORE_OPTIONS)),
    ],
  },
  throws: {},
};

export function machineCalls(machine: Schema<Machine>): CallsOf<Machine> {
  return {
    rejects: {
      fork: [argument('count', optional(integer(0, MAX_FORKS))), argument('options', optional(FORK_CHOICE))],
      decide: [argument('decision', DECISION), argument('options', optional(DECIDE_OPTIONS))],
      reset: [argument('point', FORK_POINT)],
      adopt: [argument('clone', machine)],
      branches: [argument('options', optional(BRANCH_OPTIONS))],
      merge: [argument('other', machine), argument('options', MERGE_OPTIONS)],
      copy: [argument('other', machine), argument('options', COPY_OPTIONS)],
      gdb: [argument('options', optional(GDB_OPTIONS))],
      boot: [WAIT_OPTIONS],
      record: [argument('path', HOST_PATH), argument('options', optional(RECORD_OPTIONS))],
      setTime: [argument('time', TIME)],
      step: [argument('steps', optional(COUNT)), WAIT_OPTIONS],
      runUntil: [argument('goal', GOAL), WAIT_OPTIONS],
      runTo: [
        argument('conditions', CONDITIONS),
        argument(
          'options',
          optional(
            record<Waiting<{ readonly hold?: boolean; readonly standing?: boolean }>>({
              ...WAIT,
              hold: optional(flag),
              standing: optional(flag),
            }),
          ),
        ),
      ],
      watchWaits: [argument('options', optional(record<Omit<DetectorOptions, 'output'>>(DETECTOR)))],
      wait: [
        argument(
          'options',
          optional(
            record<Waiting<{ readonly live?: boolean; readonly passive?: boolean }>>({
              ...WAIT,
              live: optional(flag),
              passive: optional(flag),
            }),
          ),
        ),
      ],
      exec: [argument('argv', ARGV), argument('options', optional(EXEC_OPTIONS))],
      typeInto: [argument('program', PROGRAM), argument('input', DATA)],
      readFile: [
        argument('path', GUEST_PATH),
        argument(
          'options',
          optional(record<Waiting<{ readonly limit?: number }>>({ ...WAIT, limit: optional(integer(0)) })),
        ),
      ],
      writeFile: [argument('path', GUEST_PATH), argument('content', DATA), WAIT_OPTIONS],
      shutdown: [
        argument(
          'options',
          optional(
            record<Waiting<{ readonly mode?: 'powerdown' | 'reboot' | 'halt' }>>({
              ...WAIT,
              mode: optional(oneOf('powerdown', 'reboot', 'halt')),
            }),
          ),
        ),
      ],
      type: [argument('input', INPUT)],
    },
    throws: {
      spawn: [argument('argv', ARGV), argument('options', optional(SPAWN_OPTIONS))],
      keyOf: [argument('program', PROGRAM)],
      resize: [argument('columns', SIDE), argument('rows', SIDE)],
      onConsole: [argument('sink', callback)],
      on: [argument('event', EVENTS), argument('listener', callback)],
    },
  };
}
