/** The public surface of the core: see README.md for how a machine is made and run. */

export { AgentClient, type ExecHandle, type ExecHandlers, type ExecRequest } from './agent/client.ts';
export { AgentError } from './agent/errors.ts';
export { BootError } from './boot/errors.ts';
export { AnalysisError, type AnalysisReason } from './branch/analysis-error.ts';
export { type Activation, type Decision, DecisionError, decisionOf } from './branch/decision.ts';
export {
  type BranchContext,
  type Branched,
  type Budget,
  type Explored,
  ExploreError,
  type ExploreOptions,
  explore,
  type Progress,
  type Strategy,
} from './branch/explore.ts';
export {
  formatIndex,
  type NodeOutcome,
  type SearchEnd,
  type SearchNode,
  type SearchTree,
} from './branch/explore-tree.ts';
export { type FunctionFlow, type FunctionPlace, functionAt } from './branch/flow.ts';
export {
  becomeForkPoint,
  type ForkPoint,
  forkPoint,
  freeForkPoint,
  type Identity,
  identify,
  machineFrom,
  shareForkPoint,
} from './branch/fork-point.ts';
export {
  type Ahead,
  type AheadOptions,
  type DecisionEnd,
  HostBranch,
  type HostBranchOptions,
} from './branch/host-branch.ts';
export { type BranchPoint, branchPointAt, branchPoints, type CodePlace } from './branch/points.ts';
export { ProgramCode } from './branch/program-code.ts';
export { reopen } from './branch/reopen.ts';
export type { Refusal } from './branch/take-over.ts';
export { type Drawable, drawable, formatProgress, renderTree, type TreeTextOptions } from './branch/tree-text.ts';
export { detectWaits, promptOf, type TimedOutput, WaitDetector, type WaitProposal } from './branch/waits.ts';
export { type BlockBackend, MemoryBackend } from './devices/virtio-block/backend.ts';
export type { NetBackend } from './devices/virtio-net/backend.ts';
export { Engine, type EngineCounters } from './engine/engine.ts';
export type { PortableModule } from './engine/translator/installer.ts';
export { disassemble } from './isa/print.ts';
export type { Breakpoint } from './machine/breakpoints.ts';
export { stateHash, visibleState } from './machine/hash.ts';
export type { Hint, HintName, HintQuotas } from './machine/hints.ts';
export type { Interception, ReplayOnlyHint } from './machine/interceptions.ts';
export { EventLog, formatPosition, type InputEvent, LogReader, type Position, ReplayError } from './machine/log.ts';
export { Machine, type Outputs } from './machine/machine.ts';
export {
  type Boot,
  checkOptions,
  type DiskOptions,
  type Exit,
  MachineError,
  type MachineOptions,
  type Stop,
  type WatchAccess,
} from './machine/options.ts';
export { type Attachments, type MachineState, restoreMachine, saveMachine } from './machine/save.ts';
export type { WatchHit, Watchpoint } from './machine/watchpoints.ts';
export { Pool, PoolFullError } from './memory/pool.ts';
export { decodeState, encodeState } from './state/encode.ts';
export { StateError } from './state/errors.ts';
export { escapeGuestText } from './text/escape.ts';
export { type BisectOptions, bisect, formatParting, type Parting } from './timeline/bisect.ts';
export { CapturedOutput, type OutputPiece, type OutputStream } from './timeline/captured-output.ts';
export { type Difference, differences, formatDifferences } from './timeline/differences.ts';
export { type Divergence, DivergenceError } from './timeline/divergence.ts';
export { Diversion, DiversionError, type DiversionOptions, type DiversionReason } from './timeline/diversion.ts';
export { type CallArgument, type CallOptions, type CallResult, callFunction } from './timeline/guest-call.ts';
export {
  HookError,
  type HookedPlace,
  type HookFilter,
  type HookPlace,
  Hooks,
  type HooksOptions,
  programSymbols,
  type SymbolSource,
} from './timeline/hooks.ts';
export {
  type LoggedRun,
  type LoggedRunState,
  record,
  replay,
  restoreLoggedRun,
  saveLoggedRun,
} from './timeline/logged-run.ts';
export type { Hit, Point } from './timeline/points.ts';
export { Recording } from './timeline/recording/reader.ts';
export { RecordingWriter } from './timeline/recording/writer.ts';
export { ReplayOnly, type ReplayOnlyOptions, type ReplayOnlyRun } from './timeline/replay-only.ts';
export { type LastWrite, Timeline, type TimelineStop } from './timeline/timeline.ts';
