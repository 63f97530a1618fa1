/**
 * Branch points chosen by the host, at run time: clones run the ways of a branch ahead of its condition, and the original takes
 * the result of the right one over instead of running that way itself.
 *
 *     const branch = new HostBranch(decisionOf(flow, point));
 *     const activation = branch.reach(machine);           // the original stands at the fork point
 *     const ahead = branch.ahead(machine, activation);    // a clone for each way
 *     const end = ahead.run();                            // ... to the decision, and over it
 *
 * A way is a function of what it reads: registers, and bytes of memory. So a clone's result may be taken over when all of that is,
 * in the original at its decision, what it was in the clone at its own; anything else is a reason to refuse (`Refusal`), and the
 * original runs the way itself. What the clone wrote since its decision is put into the original then.
 */

import type { Engine } from '../engine/engine.ts';
import { PRIVILEGE } from '../hart/state.ts';
import type { Machine } from '../machine/machine.ts';
import type { Stop } from '../machine/options.ts';
import type { Attachments } from '../machine/save.ts';
import { hex } from './analysis-error.ts';
import { instructionOf, isTaken } from './condition.ts';
import { type Activation, activationOf, type Decision, DecisionError, isThread, stackPointer } from './decision.ts';
import { forkPoint, freeForkPoint, shareForkPoint } from './fork-point.ts';
import { BranchPath } from './path.ts';
import { type Refusal, takeOver } from './take-over.ts';

export interface HostBranchOptions {
  /** Only in this address space; otherwise in any, whoever comes first. */
  readonly satp?: bigint;
  /** Clones make the calls that compute the condition as well. Otherwise they step over them, their results being whatever is there. */
  readonly makeCalls?: boolean;
  /**
   * Pages whose bytes are told apart when clones read and write them: `all`, or those because of which an earlier clone was refused.
   * An access to such a page costs a call of the host. Default `learned`.
   */
  readonly bytes?: 'all' | 'learned';
  /**
   * The lowest address of the thread's stack. What lies between it and sp is dead. Default: the start of the page that sp is on; without
   * translation nothing is dead.
   */
  readonly stackBottom?: bigint;
}

export class HostBranch {
  readonly decision: Decision;
  readonly options: HostBranchOptions;
  /** Virtual pages whose bytes are told apart from now on. */
  readonly learned = new Set<bigint>();

  /** Throws `DecisionError` for a branch whose frame is not known. */
  constructor(decision: Decision, options: HostBranchOptions = {}) {
    const { frame } = decision;
    if (Object.values(frame).some((distance) => distance === undefined)) {
      throw new DecisionError(
        `the distance of sp is not known at all of the branch at ${hex(decision.decisionPoint)}: its activation cannot be told`,
      );
    }
    this.decision = decision;
    this.options = options;
  }

  /**
   * Runs a machine to the fork point, in user mode or where nothing is translated; so many steps at most. A stop that comes before is
   * given instead.
   */
  reach(machine: Machine, steps = Number.MAX_SAFE_INTEGER): Activation | Stop {
    const { satp } = this.options;
    const isHere = (hart: number) => {
      const privilege = Number(machine.hartSet.get(hart, 'privilege'));
      return privilege !== PRIVILEGE.supervisor;
    };
    const id = machine.breakpoints.add({
      address: this.decision.forkPoint,
      ...(satp === undefined ? {} : { satp }),
      condition: isHere,
    });
    try {
      const stop = machine.run(steps);
      return stop.reason === 'breakpoint' && stop.ids.includes(id) ? activationOf(machine, stop.hart) : stop;
    } finally {
      machine.breakpoints.delete(id);
    }
  }

  /** Spawns a clone for each way from a machine at the fork point. Throws `PoolFullError` and `MachineError`, as `forkPoint` does. */
  ahead(machine: Machine, activation: Activation, options: AheadOptions = {}): Ahead {
    return new Ahead(this, machine, activation, options);
  }
}

export interface AheadOptions {
  /** Where the clones run, in turn; by default where the original does. */
  readonly engines?: readonly Engine[];
  readonly attachments?: Attachments;
  /** Steps that the original and each clone make by turns. Default a million. */
  readonly quantum?: number;
  /** Steps of a clone, at most. Default 2^40. */
  readonly limit?: number;
  /** Steps that the original waits for its clone at the decision, at most. Default: until it is done. */
  readonly patience?: number;
}

/** How it ended: at the decision. */
export type DecisionEnd =
  | {
      readonly outcome: 0 | 1;
      /** The original stands at the completion; the clone made these steps, which the original has not. */
      readonly taken: true;
      readonly stepsSaved: number;
      readonly bytesWritten: number;
    }
  | {
      readonly outcome: 0 | 1;
      /** The original stands at the decision, and the next run goes the way itself. */
      readonly taken: false;
      readonly refusal: Refusal;
    };

/** A decision under way: the original computes the condition, a clone has gone ahead on each way. */
export class Ahead {
  /** By outcome: taken, not taken. */
  readonly paths: readonly [BranchPath, BranchPath];
  private readonly branch: HostBranch;
  private readonly original: Machine;
  private readonly activation: Activation;
  private readonly quantum: number;
  private readonly patience: number;

  constructor(branch: HostBranch, original: Machine, activation: Activation, options: AheadOptions) {
    const { engines = [original.engine], attachments = {}, quantum = 1e6, limit = 2 ** 40, patience = limit } = options;
    this.branch = branch;
    this.original = original;
    this.activation = activation;
    this.quantum = quantum;
    this.patience = patience;
    const { pool } = original.engine;
    const point = forkPoint(original);
    const made: BranchPath[] = [];
    try {
      for (const outcome of [0, 1] as const) {
        const engine = engines[outcome % engines.length]!;
        made.push(
          new BranchPath(engine, shareForkPoint(pool, point), branch.decision, activation, outcome, {
            attachments,
            limit,
            makeCalls: branch.options.makeCalls ?? false,
            byBytes: branch.options.bytes === 'all' ? () => true : (page) => branch.learned.has(page),
          }),
        );
      }
    } catch (error) {
      for (const path of made) path.free();
      throw error;
    } finally {
      freeForkPoint(pool, point);
    }
    this.paths = [made[0]!, made[1]!];
  }

  /**
   * Runs the original to its decision, and the clones by turns with it; then the original takes over the result of the clone that
   * went its way, if that is right. A stop of the original that comes before is given instead, and the next call goes on: so an original
   * that waits for something from outside may be given it, and `runClones` uses the time.
   */
  run(steps = Number.MAX_SAFE_INTEGER): DecisionEnd | Stop {
    const { original, branch, activation } = this;
    const { decision } = branch;
    const sp = stackPointer(decision, activation, decision.frame.decisionPoint!);
    const { hartSet } = original;
    const condition = (hart: number) => isThread(original, hart, activation) && hartSet.getX(hart, 2) === sp;
    // A machine that has stopped there already does not stop again.
    for (let hart = 0; hart < original.harts; hart++) {
      if (hartSet.get(hart, 'pc') === decision.decisionPoint && condition(hart)) return this.decide(hart);
    }
    const id = original.breakpoints.add({ address: decision.decisionPoint, condition });
    try {
      for (let left = steps; ; ) {
        const before = original.totalSteps;
        const stop = original.run(Math.min(left, this.quantum));
        left -= Number(original.totalSteps - before);
        if (stop.reason === 'breakpoint' && stop.ids.includes(id)) return this.decide(stop.hart);
        if (stop.reason !== 'steps' || left <= 0) return stop;
        this.runClones(this.quantum);
      }
    } finally {
      original.breakpoints.delete(id);
    }
  }

  /** Lets each clone that is not done make so many steps; false when none is left to run. */
  runClones(steps: number): boolean {
    return this.paths.map((path) => path.run(steps)).some((state) => state === 'running');
  }

  /** Gives both clones back. Also done at the decision. */
  free(): void {
    for (const path of this.paths) path.free();
  }

  private decide(hart: number): DecisionEnd {
    const { original, branch, paths } = this;
    const instruction = instructionOf(original, hart, branch.decision.decisionPoint);
    const outcome = isTaken(instruction, (n) => original.hartSet.getX(hart, n)) ? 0 : 1;
    const [chosen, other] = [paths[outcome], paths[1 - outcome]!];
    other.free();
    try {
      chosen.run(this.patience);
      const { end: result } = chosen;
      const bottom = branch.options.stackBottom;
      const end =
        result === undefined
          ? { reason: 'unfinished' as const }
          : 'reason' in result
            ? result
            : takeOver(original, hart, branch.decision, result, bottom);
      if (!('reason' in end)) return { outcome, taken: true, ...end };
      if ('pages' in end) for (const page of end.pages) branch.learned.add(page);
      return { outcome, taken: false, refusal: end };
    } finally {
      chosen.free();
    }
  }
}
