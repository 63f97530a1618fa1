/** Braid in Node: machines that run in threads of their own. */

export { type FileSymbol, parseKallsyms, symbolFile } from '@braid/core/gdb/symbol-file.ts';
export { comparePositions, formatPosition, type Position } from '@braid/core/machine/log.ts';
export type { Exit } from '@braid/core/machine/options.ts';
export { decodeState, encodeState } from '@braid/core/state/encode.ts';
export {
  Branch,
  type BranchCompletion,
  Branches,
  Branching,
  type BranchOptions,
  type Choice,
  type Converged,
  type Convergence,
} from './branch/branches.ts';
export { type Completion, type CompletionOptions, complete, type RunConditions } from './branch/completion.ts';
export type { CopyOptions, Merged, MergeItem, MergeOptions, Outcome, PhysicalRange } from './branch/converge.ts';
export type { Decided, DecideOptions } from './branch/decide.ts';
export { type Difference, type DiffOptions, diff, type FileDifference } from './branch/diff.ts';
export {
  Exploration,
  type ExploreNode,
  type ExploreOptions,
  type ExploreProgress,
  type ExploreScript,
  explore,
  type MakeMove,
  type View,
} from './branch/explore.ts';
export { MoveError } from './branch/explore-state.ts';
export type { FileState } from './branch/guest-files.ts';
export type { MemoryRange } from './branch/guest-memory.ts';
export type { CommandMove, FunctionMove, Move, MoveResult, TypeMove } from './branch/moves.ts';
export {
  type Answer,
  type Speculated,
  type SpeculateOptions,
  Speculation,
  speculate,
  type Wanted,
} from './branch/speculate.ts';
export { BraidError, type ErrorCode } from './errors.ts';
export { ForkPoint } from './fork-point.ts';
export { GdbListener, type GdbServeOptions } from './gdb/listener.ts';
export { Machine, type MachineEvents, type SavedMachine } from './machine.ts';
export type { AttachOptions, CreateOptions, DiskOption, FileOption, ForkOptions, SizeOption } from './options.ts';
export type { ProgramExit, WaitOptions } from './pool/link.ts';
export { Pool, type PoolOptions } from './pool/pool.ts';
export type { Goal, ReplayOnlyReport, Stats, TimeMode } from './pool/protocol.ts';
export { warmUp } from './pool/thread.ts';
export type { ExecOptions, ExecResult, Program, SpawnOptions } from './programs.ts';
export { MachineRecording, type RecordingStatistics, type RecordMachineOptions } from './replay/machine-recording.ts';
export { Replay, type ReplayOptions, type ReplayWait, type Where } from './replay/replay.ts';
export type { Reached } from './runner/conditions.ts';
