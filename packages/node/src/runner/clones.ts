/**
 * A machine's clones, and being one: fork points of the machine, how it is made from one, how it leaves for another thread or for
 * its parent, and how it becomes what a clone, or it itself, was at one.
 *
 * Programs have names: the number of the call that started one. In a clone a program of the parent has the parent's name for it behind a
 * `^`, in a clone's clone behind two.
 */

import type { ExecHandlers } from '@braid/core/agent/client.ts';
import { AgentError } from '@braid/core/agent/errors.ts';
import {
  becomeForkPoint,
  type ForkPoint,
  forkPoint,
  freeForkPoint,
  identify,
  shareForkPoint,
} from '@braid/core/branch/fork-point.ts';
import type { Engine } from '@braid/core/engine/engine.ts';
import type { Position } from '@braid/core/machine/log.ts';
import type { Machine, Outputs } from '@braid/core/machine/machine.ts';
import { agentErrorOf, BraidError, type ErrorRecord, toRecord } from '../errors.ts';
import { type Calls, type Departed, type Held, type HostState, type Made, UNKNOWN_POINT } from '../pool/protocol.ts';
import { type Assembled, type DiskFile, reassemble } from './assemble.ts';
import type { Callers } from './callers.ts';
import type { Ending } from './ending.ts';
import type { GuestCalls } from './guest-calls.ts';
import { HeldOutput } from './held-output.ts';
import type { HintPost } from './hint-post.ts';
import type { WallTime } from './pace.ts';
import type { Recording } from './recording.ts';
import type { TypedInput } from './typed-input.ts';
import type { WaitWatch } from './wait-watch.ts';

/** The rest of the machine's thread, as this part sees it. */
export interface ClonesHost {
  readonly engine: Engine;
  readonly machine: Machine | undefined;
  readonly setup: HostState['setup'] | undefined;
  readonly files: readonly DiskFile[];
  readonly outputs: Outputs;
  readonly callers: Callers;
  readonly ending: Ending;
  readonly guest: GuestCalls;
  readonly hints: HintPost;
  readonly recording: Recording;
  readonly typed: TypedInput;
  readonly turns: { readonly wallTime: WallTime };
  waitWatch: WaitWatch | undefined;
  /** The machine has been made. */
  begin(assembled: Assembled, setup: HostState['setup']): Made;
  /** Throws where the machine cannot leave now. */
  requireFree(): void;
  /** It has left. */
  end(error: BraidError): void;
  /** It is somewhere else all at once: what was noted of before does not hold. */
  renewed(machine: Machine): void;
  /** Has it stand, and whoever waits for it fail. */
  halt(error: BraidError): void;
  /** Console output, and a program's, to be sent on. */
  output(bytes: Uint8Array): void;
  programOutput(id: number, stream: 'stdout' | 'stderr', bytes: Uint8Array): void;
  wake(): void;
}

export class Clones {
  readonly held: HeldOutput;
  private readonly host: ClonesHost;
  private readonly points: Map<number, ForkPoint>;

  /** `points`: fork points of the thread, by their numbers. */
  constructor(points: Map<number, ForkPoint>, host: ClonesHost) {
    this.points = points;
    this.host = host;
    this.held = new HeldOutput((error) => host.halt(error));
  }

  /** So many fork points of the machine as it stands; an error for each for which there is no room. */
  fork(machine: Machine, count: number): Calls['fork'][1] {
    const points: (ForkPoint | ErrorRecord)[] = [];
    for (let n = 0; n < count; n++) {
      try {
        const first = points[0];
        points.push(first && 'ram' in first ? shareForkPoint(machine.engine.pool, first) : forkPoint(machine));
      } catch (error) {
        points.push(toRecord(error));
      }
    }
    return { points, host: { ...this.hostState(), ...this.held.ofClones } };
  }

  private hostState(locks: HostState['locks'] = []): HostState {
    const { setup, typed, ending, hints, turns } = this.host;
    return {
      setup: setup!,
      inputEnded: typed.ended,
      panic: ending.panicState,
      wallOrigin: turns.wallTime.origin,
      ...this.held.state,
      locks,
      hints: hints.state,
    };
  }

  /** Makes the machine from a fork point: a clone, or the machine that was somewhere else before. */
  arrive({ point, host: state, inputs, clone, seed, mac, connected }: Calls['arrive'][0]): Made {
    const { host, held } = this;
    held.arrive(state, clone);
    host.typed.ended = state.inputEnded;
    // Of a hint that a clone's parent waits with, the clone has heard nothing.
    host.hints.state = clone ? { heard: false, pending: undefined } : state.hints;
    const assembled = reassemble(host.engine, state.setup, point, host.outputs, {
      clone: held.active,
      locks: state.locks,
      handlersOf: (key) => this.inherited(clone ? key : key.slice(1)),
    });
    const { machine } = assembled;
    if (clone) {
      const own = { ...(seed === undefined ? {} : { seed }), ...(mac === undefined ? {} : { mac }) };
      identify(machine, connected === undefined ? own : { ...own, connected });
    }
    for (const input of inputs) machine.input(input);
    host.ending.arrive(state.panic, machine.exit !== undefined);
    host.turns.wallTime.begin(state.wallOrigin);
    return host.begin(assembled, state.setup);
  }

  /** The machine leaves the thread. */
  leave(machine: Machine, { for: purpose }: Calls['leave'][0]): Departed {
    const { host } = this;
    host.requireFree();
    host.recording.stop('the machine was adopted by its parent');
    const point = forkPoint(machine);
    const events = purpose === 'adopt' ? machine.log.events : [];
    const files = host.files.values();
    const locks = host.setup!.disks.map((disk) => ('bytes' in disk ? undefined : files.next().value?.handOver()));
    const departed = { point, host: this.hostState(locks), inputs: machine.takeInputs(), events };
    const why =
      purpose === 'move' ? 'the machine has moved' : 'the machine has been adopted by its parent, and lives on there';
    host.end(new BraidError('ERR_BRAID_ADOPTED', why));
    machine.free();
    return departed;
  }

  /** The machine becomes a clone of its own, and sends on what that one has held back. */
  adopt(machine: Machine, { point, ...clone }: Calls['adopt'][0]): Position {
    const { host } = this;
    const { waitWatch } = host;
    waitWatch?.starts(performance.now());
    waitWatch?.adopted(machine, clone.held, clone.events);
    // It has seen the outputs already.
    host.waitWatch = undefined;
    const prefix = '^'.repeat(clone.levels);
    const handlersOf = (key: string) =>
      key.startsWith(prefix) ? this.handlersOf(machine, key.slice(clone.levels)) : undefined;
    try {
      host.recording.across('adopt', () => this.become(machine, point, { keepInput: true, handlersOf }, clone));
    } finally {
      freeForkPoint(machine.engine.pool, point);
      waitWatch?.renewed();
      host.waitWatch = waitWatch;
    }
    return machine.position;
  }

  /** The machine goes back to a fork point, which is kept. */
  reset(machine: Machine, { id, point }: Calls['reset'][0]): Position {
    if (point) this.points.set(id, point);
    const known = this.points.get(id);
    if (!known) throw new BraidError(UNKNOWN_POINT, 'the thread does not know the fork point');
    const handlersOf = (key: string) => this.handlersOf(machine, key);
    this.host.recording.across('reset', () => this.become(machine, known, { handlersOf }));
    return machine.position;
  }

  private become(
    machine: Machine,
    point: ForkPoint,
    options: NonNullable<Parameters<typeof becomeForkPoint>[2]>,
    clone?: Omit<Calls['adopt'][0], 'point'>,
  ): void {
    const { host } = this;
    const handles = becomeForkPoint(machine, point, options);
    host.renewed(machine);
    // What the clone was about to hear comes first: the answer to a hint is one of it.
    for (const input of [...(clone?.inputs ?? []), ...machine.takeInputs()]) machine.input(input);
    host.hints.become(clone?.hint);
    for (const item of clone?.held ?? []) this.sendOn(item);
    host.guest.reattach(handles);
    // What has happened in the clone has happened: its answers wait for no boundary.
    host.callers.giveAnswers();
    // What was to be said to the agent of before is said to nobody.
    host.wake();
  }

  /** Sends on what a clone of ours has held back. */
  private sendOn(item: Held): void {
    const { host } = this;
    if (item.kind === 'console') return host.output(item.bytes);
    const { key } = item;
    if (key.startsWith('^')) return this.held.add({ ...item, key: key.slice(1) });
    if (item.kind === 'output') host.programOutput(Number(key), item.stream, item.bytes);
    else host.guest.exited(Number(key), 'message' in item.outcome ? agentErrorOf(item.outcome) : item.outcome, item.at);
  }

  /** A program by the name that it has here: one that somebody here has started, or the parent. */
  private handlersOf(machine: Machine, key: string): ExecHandlers | undefined {
    return key.startsWith('^') ? this.inherited(key.slice(1)) : this.host.guest.handlersOf(machine, key);
  }

  /** Handlers for a program of the parent, by its name there: what it says is held back. Only a clone has such programs. */
  private inherited(key: string): ExecHandlers | undefined {
    const { host, held } = this;
    if (!held.active) return undefined;
    return {
      key: `^${key}`,
      attached: (handle) => host.guest.inherit(key, handle),
      output: (stream, bytes) => {
        host.callers.see((watch) => watch.seeOutput(key, bytes));
        held.add({ kind: 'output', key, stream, bytes: bytes.slice() });
      },
      exit: (outcome) => {
        host.guest.disinherit(key);
        host.callers.see((watch) => watch.seeExit(key));
        const record = outcome instanceof AgentError ? toRecord(outcome) : outcome;
        held.add({ kind: 'exit', key, outcome: record, at: host.machine!.totalSteps });
      },
    };
  }
}
