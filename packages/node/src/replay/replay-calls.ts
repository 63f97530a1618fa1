/** What the calls of `Replay` take: see `Replay`. */

import { argument, type CallsOf } from '@braid/core/check/calls.ts';
import {
  callback,
  either,
  flag,
  integer,
  list,
  oneOf,
  optional,
  record,
  type Schema,
  text,
  whole,
  wide,
} from '@braid/core/check/schema.ts';
import type { UserProgram } from '@braid/core/machine/user-edges.ts';
import type { Point } from '@braid/core/timeline/points.ts';
import { MARK_KINDS, type Mark } from '@braid/core/timeline/recording/info.ts';
import { COUNT, HART, HOST_PATH, POSITION, U64, WAIT } from '../check.ts';
import { GDB_OPTIONS } from '../gdb/listener.ts';
import { DIVERT_OPTIONS, POOL } from '../options.ts';
import { HOOK_OPTIONS, PLACE } from './hooked.ts';
import type { LastWriteOptions, Replay, ReplayOptions, ReplayRun, ReplaySteps, ReplayWait, Where } from './replay.ts';

const MOMENT = wide(0n, (1n << 63n) - 1n);

const WHERE: Schema<Where> = either(
  text,
  record<{ readonly at: bigint }>({ at: MOMENT }),
  record<{ readonly time: bigint }>({ time: MOMENT }),
  record<{ readonly position: Extract<Where, { readonly position: unknown }>['position'] }>({ position: POSITION }),
  record<Mark>({
    stretch: integer(0),
    kind: oneOf(...MARK_KINDS),
    name: text,
    at: MOMENT,
    position: POSITION,
    time: MOMENT,
  }),
);

const USER_PROGRAM = record<UserProgram>({ scratch: optional(U64), tables: optional(U64) });

const POINT: Schema<Point> = either(
  record<Extract<Point, { readonly kind: 'break' }>>({
    kind: oneOf('break'),
    address: U64,
    satp: optional(U64),
    program: optional(USER_PROGRAM),
  }),
  record<Exclude<Point, { readonly kind: 'break' }>>({
    kind: oneOf('write', 'read', 'access'),
    address: U64,
    length: integer(1, 2 ** 28),
    physical: optional(flag),
    satp: optional(U64),
  }),
);

const WAIT_FIELDS = { ...WAIT, onProgress: optional(callback) };
const STEPS = [
  argument('options', optional(record<ReplaySteps>({ ...WAIT_FIELDS, hart: optional(HART), count: optional(COUNT) }))),
] as const;

export const STATIC_CALLS: CallsOf<typeof Replay> = {
  rejects: {
    open: [
      argument('path', HOST_PATH),
      argument(
        'options',
        optional(
          record<ReplayOptions>({ pool: optional(POOL), onConsole: optional(callback), onProgram: optional(callback) }),
        ),
      ),
    ],
  },
  throws: {},
};

export const REPLAY_CALLS: CallsOf<Replay> = {
  rejects: {
    seek: [argument('where', WHERE), argument('wait', optional(record<ReplayWait>(WAIT_FIELDS)))],
    run: [
      argument(
        'options',
        optional(
          record<ReplayRun>({
            ...WAIT_FIELDS,
            points: optional(list(POINT)),
            to: optional(WHERE),
            show: optional(flag),
            replayOnly: optional(either(list(whole(0n, (1n << 64n) - 1n)), oneOf('all'))),
            onReplayOnly: optional(callback),
          }),
        ),
      ),
    ],
    on: [argument('place', PLACE), argument('call', callback), argument('options', optional(HOOK_OPTIONS))],
    reverse: [argument('points', list(POINT)), argument('wait', optional(record<ReplayWait>(WAIT_FIELDS)))],
    step: STEPS,
    reverseStep: STEPS,
    lastWrite: [
      argument('address', U64),
      argument(
        'options',
        optional(
          record<LastWriteOptions>({
            ...WAIT_FIELDS,
            length: optional(integer(1, 2 ** 28)),
            hart: optional(HART),
            physical: optional(flag),
          }),
        ),
      ),
    ],
    divert: [argument('options', optional(DIVERT_OPTIONS))],
    gdb: [argument('options', optional(GDB_OPTIONS))],
  },
  throws: {},
};
