/** Braid in Node: machines that run in threads of their own. */

export { comparePositions, formatPosition, type Position } from '@braid/core/machine/log.ts';
export type { Exit } from '@braid/core/machine/options.ts';
export { decodeState, encodeState } from '@braid/core/state/encode.ts';
export { type Completion, type CompletionOptions, complete, type RunConditions } from './completion.ts';
export type { Reached } from './conditions.ts';
export { BraidError, type ErrorCode } from './errors.ts';
export {
  Exploration,
  type ExploreNode,
  type ExploreOptions,
  type ExploreProgress,
  type ExploreScript,
  explore,
  type MakeMove,
  type View,
} from './explore.ts';
export { MoveError } from './explore-state.ts';
export type { ProgramExit, WaitOptions } from './link.ts';
export {
  type ExecOptions,
  type ExecResult,
  type ForkOptions,
  ForkPoint,
  Machine,
  type MachineEvents,
  type Program,
  type SavedMachine,
  type SpawnOptions,
} from './machine.ts';
export type { CommandMove, FunctionMove, Move, MoveResult, TypeMove } from './moves.ts';
export type { AttachOptions, CreateOptions, DiskOption, FileOption, SizeOption } from './options.ts';
export { Pool, type PoolOptions } from './pool.ts';
export type { Goal, Stats, TimeMode } from './protocol.ts';
export {
  type Answer,
  type Speculated,
  type SpeculateOptions,
  Speculation,
  speculate,
  type Wanted,
} from './speculate.ts';
export { warmUp } from './thread.ts';
